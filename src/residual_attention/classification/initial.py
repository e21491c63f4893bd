"""Where a classifier's weights start: another classifier of ours, whose network and image size come with it."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..checkpoints import read_model
from ..checkpoints.card import CLASSIFICATION, Card
from ..checkpoints.format import CheckpointError
from ..data.datasets import suggested_image_size
from ..data.sources import SOURCES
from ..errors import UserError
from ..training.options import NetworkOptions
from .config import TrainConfig

SHIPPED = "attention56_cifar.cifar10"  # what ``--init auto`` means
CLASSIFIER = "head.fc."  # the only tensors that may differ
FINER = 2  # times the side that the weights were trained at, for larger images


@dataclass(frozen=True)
class Start:
    """Weights (fp32, on the CPU) and card of the classifier that a run starts from."""

    name: str
    weights: dict[str, Tensor]
    card: Card

    @property
    def network_options(self) -> dict[str, Any]:
        """The network's own options, without classes and channels."""
        known = {field.name for field in fields(NetworkOptions)}
        overrides = {key: value for key, value in self.card.overrides.items() if key in known}
        return {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}


def read_start(config: TrainConfig) -> Start | None:
    """The classifier that ``--init`` names, or None for fresh weights.

    Raises UserError when there is no such MODEL, when it cannot be trained, or when ``--model`` asks for another one.
    """
    if config.init in (None, "none"):
        return None
    name = SHIPPED if config.init == "auto" else str(config.init)
    if name.endswith(".onnx"):
        raise UserError(f"--init {name}: an exported model cannot be trained; give its checkpoint")
    weights, card = read_model(name)
    if card.task != CLASSIFICATION:
        raise UserError(f"--init {name} is a detector; a classifier starts from a classifier")
    if config.model not in (None, card.model):
        raise UserError(f"--init {name} holds {card.model}, not {config.model}; leave --model out, or --init none")
    return Start(name, weights, card)


def started_from(config: TrainConfig, start: Start) -> TrainConfig:
    """The configuration with the network of ``start``, its channels, and a side that its weights are good for."""
    assert start.card.preprocess is not None
    own = start.card.preprocess
    size = config.image_size
    if size is None:
        is_folder = config.data not in SOURCES and Path(config.data).is_dir()
        size = min(suggested_image_size(Path(config.data)), FINER * own.image_size) if is_folder else own.image_size
    options = {key: value for key, value in start.network_options.items() if getattr(config, key) is None}
    return replace(
        config,
        model=start.card.model,
        image_size=size,
        in_chans=config.in_chans or own.in_chans,
        init=start.name,
        **options,
    )


def copy_weights(model: nn.Module, start: Start) -> str:
    """Copy the weights; a classifier of other classes stays fresh. Returns a notice.

    Raises CheckpointError when the networks differ anywhere else.
    """
    own = model.state_dict()
    differing = [name for name in own if name not in start.weights or start.weights[name].shape != own[name].shape]
    differing += [name for name in start.weights if name not in own]
    others = [name for name in differing if not name.startswith(CLASSIFIER)]
    if others:
        raise CheckpointError(
            f"--init {start.name}: a different network ({len(others)} tensors differ, {others[0]} first); "
            "leave the network's options out"
        )
    model.load_state_dict({k: v for k, v in start.weights.items() if k not in differing}, strict=False)
    classifier = "; the classifier starts from scratch" if differing else ""
    return f"initial weights from {start.name}{classifier}"
