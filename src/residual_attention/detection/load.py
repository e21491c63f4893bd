"""From MODEL to a trained detector ready to use."""

from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.card import DETECTION, Card
from ..checkpoints.format import CheckpointError, read_checkpoint
from ..checkpoints.load import model_weights, resolve_model
from ..checkpoints.soundness import check_weights
from ..errors import UserError
from ..family import create_model, list_models
from ..plugins import require
from .config import DetectConfig
from .detectors import BaseDetector, Detector, build_body, build_detector


def read_detector(model: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of a detector's checkpoint. Raises UserError when MODEL is something else."""
    tensors, header = read_checkpoint(path := resolve_model(model))
    card = Card.from_header(header, path)
    card.require_task(DETECTION, model)
    check_weights(model_weights(tensors), model)
    return tensors, card


def load_detector(model: str | Path, device: str | torch.device = "cpu") -> Detector:
    """Load the trained detector of a run folder or of a ``.safetensors`` file written by ran, in eval mode.

    Raises:
        UserError: no such file, a damaged file, or a classifier.
    """
    tensors, card = read_detector(model)
    require(card.plugins, str(model))
    config = _config(card, tensors, model)
    try:
        body, _ = build_body(config, card.model)
    except (UserError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{model} describes a network that cannot be built: {error}") from error
    detector = build_detector(config, body, card.classes, *card.constants)
    try:
        detector.load_state_dict(model_weights(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"{model} does not hold the detector that it describes: {error}") from error
    detector.card = card
    return detector.eval().to(device)


def _config(card: Card, tensors: dict[str, Tensor], model: str | Path) -> DetectConfig:
    """The detector's configuration. Raises CheckpointError if it is invalid or asks for more weights than there are.

    A network with changed widths is counted before memory is taken for it.
    """
    try:
        config = DetectConfig.from_dict(card.config)
        if card.model not in list_models() or not (options := config.network_overrides()):
            return config
        with torch.device("meta"):
            wanted = sum(p.numel() for p in create_model(card.model, num_classes=0, **options).parameters())
    except (UserError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{model} is damaged: {error}") from error
    if wanted > sum(tensor.numel() for tensor in tensors.values()):
        raise CheckpointError(f"{model} does not hold the detector that it describes: {wanted:,} weights in its body")
    return config


def any_detector(model: str | Path, device: str | torch.device = "cpu") -> BaseDetector:
    """`load_detector`, or one of our ``.onnx`` detectors, which runs on the CPU whatever ``device`` is."""
    if Path(model).suffix == ".onnx" and Path(model).is_file():
        from .export import ExportedDetector

        return ExportedDetector(Path(model))
    return load_detector(model, device)
