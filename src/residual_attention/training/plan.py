"""Complete a configuration from its data: every ``None`` and ``auto`` becomes a value."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ..data.order import steps_per_epoch
from ..errors import UserError
from .config import RunConfig
from .machine import Machine
from .optimization import check_optimizer, resolve_fused

ConfigT = TypeVar("ConfigT", bound=RunConfig)


@dataclass(frozen=True)
class Plan(Generic[ConfigT]):
    """``config`` is complete; ``epochs`` and ``total_steps`` are the length of the schedule."""

    config: ConfigT
    model: str
    epochs: int
    total_steps: int
    steps_per_epoch: int


def planned(config: ConfigT, machine: Machine, images: int, *, validates: bool) -> Plan[ConfigT]:
    """The plan of a run over ``images`` training images, whose task has resolved its own settings in ``config``.

    ``validates``: whether there is a validation split. Raises UserError for settings that need something the run lacks.
    """
    check_validation(config, validates)
    check_optimizer(config.optimizer)
    repeats = repeats_of(config, images)
    per_epoch = steps_per_epoch(repeats * images, config.batch_size)
    epochs, total = length_of(config, per_epoch)
    resolved = replace(
        config,
        epochs=None if config.steps is not None else epochs,
        repeats=repeats,
        device=machine.device.type if config.device == "auto" else config.device,
        precision=machine.precision,
        compile="on" if machine.compile else "off",
        cuda_graphs="on" if machine.graphs else "off",
        channels_last="on" if machine.channels_last else "off",
        fused=resolve_fused(config, machine.device),
        workers=machine.workers,
    )
    assert resolved.model is not None
    return Plan(resolved, resolved.model, epochs, total, per_epoch)


def evaluation_batch_size(config: RunConfig, processes: int) -> int:
    """Images per evaluation batch of one process; evaluation needs far less memory per image than training."""
    return max(1, min(256, 2 * config.batch_size // (config.accumulate * processes)))


MOST_EPOCHS = 1000  # of a run measured in steps; beyond that, an epoch repeats its few images


def repeats_of(config: RunConfig, images: int) -> int:
    """Passes over the data per epoch: more than one if epochs would otherwise be only a few steps long."""
    if config.repeats is not None:
        return config.repeats
    if config.steps is not None:
        return math.ceil(config.steps / steps_per_epoch(images, config.batch_size) / MOST_EPOCHS)
    assert config.epochs is not None
    per_epoch = math.ceil(config.min_steps / config.epochs)
    repeats = max(1, math.ceil(per_epoch * config.batch_size / images))
    while config.epochs * steps_per_epoch(repeats * images, config.batch_size) < config.min_steps:
        repeats += 1
    return repeats


def length_of(config: RunConfig, per_epoch: int) -> tuple[int, int]:
    """Epochs (the last one may be partial) and steps of the whole run."""
    if config.steps is not None:
        return math.ceil(config.steps / per_epoch), config.steps
    assert config.epochs is not None
    return config.epochs, config.epochs * per_epoch


def absolute(name: str) -> str:
    """An existing path made absolute; any other name unchanged."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def check_validation(config: RunConfig, validates: bool) -> None:
    """Raise UserError for settings that need a validation split if there is none."""
    for name in ("early_stop",) if config.schedule != "plateau" else ("early_stop", "schedule"):
        if getattr(config, name) and not validates:
            raise UserError(f"{name.replace('_', '-')} needs a validation split; set --val-fraction above 0")
