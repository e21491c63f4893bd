"""Where a detector's weights come from: one of our classifiers for the backbone, or another detector."""

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ..checkpoints.card import DETECTION, Card
from ..checkpoints.format import CheckpointError
from ..checkpoints.load import read_model
from ..errors import UserError
from ..training.options import NetworkOptions
from .config import DetectConfig
from .detectors import Detector

SHIPPED = "attention56_cifar.cifar10"
CLASS_LAYERS = ("roi_heads.box_predictor.", "head.classification_head.cls_logits.")  # one output per class


@dataclass(frozen=True)
class Start:
    """Weights and card of a checkpoint."""

    name: str
    weights: dict[str, Tensor]
    card: Card

    @property
    def is_detector(self) -> bool:
        return self.card.task == DETECTION

    @property
    def model(self) -> str:
        return self.card.model

    @property
    def network_options(self) -> dict[str, Any]:
        """The network's options, without classes and channels."""
        known = {field.name for field in fields(NetworkOptions)}
        overrides = {key: value for key, value in self.card.overrides.items() if key in known}
        return {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}


def read_start(config: DetectConfig, notices: list[str]) -> Start | None:
    """The checkpoint of ``--init``, or None to start from scratch.

    Raises UserError when there is no such MODEL, or when it takes grayscale images.
    """
    if config.init in (None, "none"):
        return None
    name = str(config.init)
    if name == "auto":
        if config.model not in (None, "attention56_cifar") or config.network_overrides():
            notices.append(f"{config.model or 'the network'} starts from scratch: no shipped weights; use --init")
            return None
        name = SHIPPED
    if name.endswith(".onnx"):
        raise UserError(f"--init {name}: an exported model cannot be trained; use its checkpoint")
    start = Start(name, *read_model(name))
    if len(start.card.constants[0]) != 3:
        raise UserError(f"--init {name}: it was trained on grayscale images; detectors need colour")
    if config.model not in (None, start.model):
        raise UserError(f"--init {name} holds {start.model}, not {config.model}; leave --model out, or use --init none")
    return start


def copy_weights(detector: Detector, start: Start) -> str:
    """Copy what fits and report it in one line.

    Raises CheckpointError when the backbone is a different network.
    """
    own = detector.state_dict()
    if start.is_detector:
        given = detector.pyramid.renamed(start.weights, "network.backbone.")
        if start.card.classes != detector.classes:
            given = {k: v for k, v in given.items() if not k.removeprefix("network.").startswith(CLASS_LAYERS)}
    else:
        body = "network.backbone.body."
        given = {f"{body}{name}": value for name, value in start.weights.items() if not name.startswith("head.")}
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    backbone = [name for name in own if name.startswith("network.backbone.body.")]
    differing = [name for name in backbone if name not in fitting]
    if differing:
        raise CheckpointError(
            f"--init {start.name}: a different network ({len(differing)} tensors differ, "
            f"{differing[0].removeprefix('network.backbone.body.')} first)"
        )
    detector.load_state_dict(fitting, strict=False)
    fresh = len(own) - len(fitting)
    what = "the detector" if start.is_detector else "the backbone"
    rest = f"; {fresh} tensors start from scratch" if fresh else ""
    return f"initial weights of {what} from {start.name}{rest}"
