"""The complete configuration of a run: one frozen dataclass for CLI flags, ``config.yaml`` and checkpoints."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

import yaml

from ..errors import UserError
from ..hints import did_you_mean
from .duration import seconds_of
from .options import CommonOptions, LoopOptions, MachineOptions, NetworkOptions, OutputOptions, TransferOptions
from .typed import typed

T = TypeVar("T")


@dataclass(frozen=True)
class RunConfig(OutputOptions, MachineOptions, NetworkOptions, TransferOptions, LoopOptions, CommonOptions):
    """The settings of any run, whatever the task. ``None`` is resolved from the data or the machine, and printed."""

    def __post_init__(self) -> None:
        validate_run(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON, without `OutputOptions`."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items() if k not in OUTPUT}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`. Raises UserError for an unknown key, with the nearest known one.

        `OutputOptions` among the values, as written by version 0.1, are ignored.
        """
        types = get_type_hints(cls)
        for key in values:
            if key not in types:
                raise UserError(f"unknown configuration key {key!r}{did_you_mean(key, types)}")
        return cls(**{k: typed(k, v, types[k]) for k, v in values.items() if k not in OUTPUT})

    def section(self, kind: type[T]) -> T:
        """An instance of the dataclass ``kind``, filled from the fields of the same names."""
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]

    def lasting(self, *, epochs: int | None = None, steps: int | None = None) -> Self:
        """A copy with another length, which overrides ``time``; ``epochs`` overrides ``min_steps`` too."""
        if epochs is not None:
            return dataclasses.replace(self, epochs=epochs, steps=None, min_steps=0, time=None)
        return self if steps is None else dataclasses.replace(self, steps=steps, time=None)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


OUTPUT = frozenset(field.name for field in dataclasses.fields(OutputOptions))
MAX_COUNT = 2**53  # of steps, images, ...: beyond it, a float no longer counts
MAX_WORKERS = 512


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def check_between(config: RunConfig, ranges: dict[str, tuple[float, float]]) -> None:
    """Raise UserError for a field outside its closed range."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise UserError(f"{name} must be between {low:g} and {high:g}, not {value}")


def check_least(config: RunConfig, least: dict[str, float]) -> None:
    """Raise UserError for a field below its minimum; None passes."""
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and not value >= low:
            raise UserError(f"{name} must be at least {low:g}, not {value}")


def objection_to(value: object) -> str | None:
    """What a number, or one of a tuple, must be and is not; None if nothing is wrong, or for another value."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            return f"must be a finite number, not {number}"
        if isinstance(number, int | float) and abs(number) > MAX_COUNT:
            return f"must be at most 2^53, not {number}"
    return None


def check_numbers(config: RunConfig) -> None:
    """Raise UserError for a number that is infinite, not a number, or larger than anything can be counted with."""
    for field in dataclasses.fields(config):
        if objection := objection_to(getattr(config, field.name)):
            raise UserError(f"{field.name} {objection}")


def validate_run(config: RunConfig) -> None:
    """Raise UserError for settings that are invalid in any run."""
    check_numbers(config)
    if config.workers is not None:
        check_between(config, {"workers": (0, MAX_WORKERS)})
    check_between(config, {"lr_decay": (0, 1), "momentum": (0, 1), "ema": (0, 1)})
    check_least(
        config,
        {
            "workers": 0,
            "epochs": 1,
            "steps": 1,
            "min_steps": 0,
            "repeats": 1,
            "batch_size": 1,
            "accumulate": 1,
            "warmup_epochs": 0,
            "min_lr": 0,
            "patience": 1,
            "early_stop": 0,
            "weight_decay": 0,
            "checkpoint_steps": 0,
            "freeze_epochs": 0,
            "seed": 0,
        },
    )
    if config.time is not None:
        seconds_of(config.time)
    if not config.lr > 0:
        raise UserError(f"lr must be above 0, not {config.lr}")
    if config.layer_decay is not None and not 0 < config.layer_decay <= 1:
        raise UserError(f"layer_decay must lie above 0 and be at most 1, not {config.layer_decay}")
    if config.freeze_epochs is not None and config.freeze == "none":
        raise UserError("freeze_epochs needs --freeze trunk")
    if config.clip_grad is not None and not config.clip_grad > 0:
        raise UserError(f"clip_grad must be above 0, not {config.clip_grad}")
    if config.epochs is None and config.steps is None:
        raise UserError("set epochs or steps")
    if config.batch_size % config.accumulate:
        raise UserError(f"batch_size {config.batch_size} is not divisible by accumulate {config.accumulate}")
    if config.schedule == "multistep" and not config.milestones:
        raise UserError("schedule multistep needs milestones, in steps")
    if config.compile == "on" and config.grad_checkpointing:
        raise UserError("compile on and grad_checkpointing cannot be combined; drop one")
    if config.ema == 1.0:
        raise UserError("ema must be below 1")
