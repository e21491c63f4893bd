"""From a configuration and its data to a complete one: every ``None`` and ``auto`` becomes a value."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from ..checkpoints import load
from ..checkpoints.format import CheckpointError
from ..data.augment import Augment
from ..data.datasets import Dataset, TensorSamples
from ..data.loading import FileAugment, steps_per_epoch
from ..data.randomness import derive_seed
from ..data.sources import SOURCES
from ..family import create_model, default_image_size
from .config import RunConfig, TrainConfig
from .machine import Machine
from .optimization import check_optimizer

ConfigT = TypeVar("ConfigT", bound=RunConfig)


@dataclass(frozen=True)
class Plan(Generic[ConfigT]):
    """``config`` is complete; ``epochs`` and ``total_steps`` are what the schedule spans."""

    config: ConfigT
    model: str
    epochs: int
    total_steps: int
    steps_per_epoch: int


def evaluation_batch_size(config: RunConfig, processes: int) -> int:
    """Images at a time in an evaluation on one process: it needs far less memory each than training does."""
    return max(1, min(256, 2 * config.batch_size // (config.accumulate * processes)))


def default_model(image_size: int) -> str:
    return "attention56_cifar" if image_size <= 64 else "attention56"


MOST_EPOCHS = 1000  # of a run counted in steps; beyond, an epoch reads its few images several times


def repeats_of(config: RunConfig, images: int) -> int:
    """How often an epoch reads the data: more than once where epochs of a few steps would make up the run."""
    if config.repeats is not None:
        return config.repeats
    once = steps_per_epoch(images, config.batch_size)
    if config.steps is not None:
        return math.ceil(config.steps / once / MOST_EPOCHS)
    assert config.epochs is not None
    repeats = max(1, math.ceil(config.min_steps / (config.epochs * once)))
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
    """A path that holds from any working folder; names of other things stay."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def check_validation(config: RunConfig, validates: bool) -> None:
    """Raise ValueError for settings that need a validation split where there is none."""
    for name in ("early_stop",) if config.schedule != "plateau" else ("early_stop", "schedule"):
        if getattr(config, name) and not validates:
            raise ValueError(f"{name.replace('_', '-')} needs a validation split; set --val-fraction above 0")


def make_plan(config: TrainConfig, dataset: Dataset, machine: Machine) -> Plan[TrainConfig]:
    """Resolve the configuration against the data and the machine.

    Raises ValueError: no training images, or settings that need something the run does not have.
    """
    if dataset.train is None or len(dataset.train) == 0:
        raise ValueError(f"{config.data}: no training images")
    check_validation(config, dataset.val is not None)
    check_optimizer(config.optimizer)
    size = dataset.preprocess.image_size
    repeats = repeats_of(config, len(dataset.train))
    per_epoch = steps_per_epoch(repeats * len(dataset.train), config.batch_size)
    epochs, total = length_of(config, per_epoch)
    in_memory = isinstance(dataset.train, TensorSamples)
    padding = config.crop_padding if config.crop_padding is not None else (size // 8 if in_memory else 0)
    resolved = replace(
        config,
        data=absolute(config.data) if config.data not in SOURCES else config.data,
        data_dir=None if config.data_dir is None else config.data_dir.resolve(),
        init=None if config.init is None else absolute(config.init),
        model=config.model or default_model(size),
        image_size=size,
        in_chans=dataset.preprocess.in_chans,
        flip=dataset.flip if config.flip is None else config.flip,
        crop_padding=padding,
        epochs=None if config.steps is not None else epochs,
        repeats=repeats,
        device=machine.device.type if config.device == "auto" else config.device,
        precision=machine.precision,
        compile="on" if machine.compile else "off",
        channels_last="on" if machine.channels_last else "off",
        workers=machine.workers,
    )
    assert resolved.model is not None
    return Plan(resolved, resolved.model, epochs, total, per_epoch)


def augment_of(config: TrainConfig) -> Augment:
    """The batch augmentation of a complete configuration."""
    return Augment(
        flip=bool(config.flip),
        crop_padding=config.crop_padding or 0,
        shift=config.shift,
        rotation=config.rotation,
        cutout=config.cutout,
        mixup=config.mixup,
        cutmix=config.cutmix,
    )


def file_augment_of(config: TrainConfig) -> FileAugment:
    return FileAugment(config.min_scale, config.color_jitter, config.skip_bad_images)


def build_model(
    plan: Plan[TrainConfig], num_classes: int, init: str | None = None
) -> tuple[nn.Module, dict, list[str]]:
    """The network, initialised from the seed or from MODEL ``init``; its `create_model` arguments; notices."""
    config = plan.config
    overrides = {"num_classes": num_classes, "in_chans": config.in_chans, **config.network_overrides()}
    torch.manual_seed(derive_seed(config.seed, "init"))
    model = create_model(plan.model, **overrides)
    if config.image_size is not None and config.image_size < model.min_size:
        raise ValueError(
            f"{plan.model} needs images of at least {model.min_size} px, not {config.image_size}; raise --image-size"
            f" or take a model for {default_image_size('attention56_cifar')} px"
        )
    model.set_grad_checkpointing(config.grad_checkpointing)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in overrides.items()}
    return model, plain, init_weights(model, init) if init else []


def init_weights(model: nn.Module, source: str) -> list[str]:
    """Copy the weights of MODEL ``source``; only a classifier of another size may stay fresh.

    Raises ValueError when the networks differ anywhere else.
    """
    given = load(source).state_dict()
    own = model.state_dict()
    differing = [name for name in own if name not in given or given[name].shape != own[name].shape]
    differing += [name for name in given if name not in own]
    others = [name for name in differing if not name.startswith("head.fc.")]
    if others:
        raise CheckpointError(
            f"--init {source}: another network than this one ({len(others)} tensors differ, {others[0]} first); "
            "give the same --model and network options"
        )
    model.load_state_dict({k: v for k, v in given.items() if k not in differing}, strict=False)
    classifier = "; the classifier starts fresh" if differing else ""
    return [f"initial weights from {source}{classifier}"]
