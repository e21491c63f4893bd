"""Complete a classification run's configuration from its data: every ``None`` and ``auto`` becomes a value."""

from dataclasses import replace
from typing import Any

import torch

from ..data.datasets import Dataset
from ..data.randomness import derive_seed
from ..data.samples import TensorSamples
from ..data.sources import SOURCES
from ..errors import UserError
from ..family import default_image_size
from ..family.staged import StagedNetwork
from ..training.machine import Machine
from ..training.plan import Plan, absolute, planned
from ..trunks.backbone import Weights
from ..trunks.create import create_model
from ..trunks.network import TrunkNetwork
from .config import RecipeName, TrainConfig


def default_model(image_size: int, recipe: RecipeName = "quick") -> str:
    if image_size > 64:
        return "attention56"
    return "attention56_cifar_wide" if recipe == "budget" else "attention56_cifar"


def make_plan(config: TrainConfig, dataset: Dataset, machine: Machine) -> Plan[TrainConfig]:
    """Resolve the configuration against the data and the machine.

    Raises UserError: no training images, or settings that need something the run lacks.
    """
    if dataset.train is None or len(dataset.train) == 0:
        raise UserError(f"{config.data}: no training images")
    size = dataset.preprocess.image_size
    in_memory = isinstance(dataset.train, TensorSamples)
    padding = config.crop_padding if config.crop_padding is not None else (size // 8 if in_memory else 0)
    resolved = replace(
        config,
        data=absolute(config.data) if config.data not in SOURCES else config.data,
        data_dir=None if config.data_dir is None else config.data_dir.resolve(),
        guide=None if config.guide is None else config.guide.resolve(),
        init=None if config.init in (None, "none") else absolute(config.init),
        model=config.model or default_model(size, config.recipe),
        image_size=size,
        in_chans=dataset.preprocess.in_chans,
        flip=dataset.flip if config.flip is None else config.flip,
        crop_padding=padding,
    )
    return planned(resolved, machine, len(dataset.train), validates=dataset.val is not None)


def build_model(
    plan: Plan[TrainConfig], num_classes: int, pretrained: Weights = False
) -> tuple[StagedNetwork, dict[str, Any]]:
    """The network, initialised from the seed, and its `create_model` arguments; ``pretrained`` is for a trunk."""
    config = plan.config
    overrides = {"num_classes": num_classes, "in_chans": config.in_chans, **config.network_overrides()}
    torch.manual_seed(derive_seed(config.seed, "init"))
    model = create_model(plan.model, pretrained=pretrained, **overrides)
    if config.image_size is not None and config.image_size < model.min_size:
        raise UserError(
            f"{plan.model} needs images of at least {model.min_size} px, not {config.image_size}; raise --image-size"
            f" or use a model for {default_image_size('attention56_cifar')} px"
        )
    model.set_grad_checkpointing(config.grad_checkpointing)
    if isinstance(model, TrunkNetwork):
        overrides |= model.resolved
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in overrides.items()}
    return model, plain
