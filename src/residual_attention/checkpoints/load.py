"""Resolves and loads MODEL, an argument of most commands."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import UserError
from ..hints import did_you_mean
from ..plugins import require
from ..trunks.create import constructor
from ..trunks.network import TrunkNetwork
from .card import CLASSIFICATION, Card
from .classifier import TRAINED, Classifier
from .confidence import Confidence
from .exported import ExportedClassifier, check_engine
from .format import CheckpointError, read_checkpoint
from .hub import is_hub, read_hub
from .soundness import check_weights

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
WEIGHTS_PREFIX = "model."
CONFIDENCE = WEIGHTS / "confidence.json"  # of weights whose runs did not measure it; by tools/calibrate_weights.py


def list_weights() -> list[str]:
    """Names of the weights that ship with the package, such as ``attention56_cifar.cifar10``."""
    return sorted(path.name.removesuffix(".safetensors") for path in WEIGHTS.glob("*.safetensors"))


def resolve_model(model: str | Path) -> Path:
    """The file that MODEL refers to: a run folder's best checkpoint, a file, or shipped weights.

    Raises:
        UserError: MODEL is none of these.
    """
    path = Path(model)
    if path.is_dir():
        for name in ("best", "last"):
            candidate = path / "checkpoints" / f"{name}.safetensors"
            if candidate.is_file():
                _check_readable(candidate)
                return candidate
        raise UserError(f"{path} is not a run folder (checkpoints/best.safetensors not found)")
    if path.is_file():
        _check_readable(path)
        return path
    shipped = WEIGHTS / f"{model}.safetensors"
    if shipped.is_file():
        return shipped
    known = tuple(list_weights())
    listing = f"; names: {', '.join(known)}" if known else ""
    wanted = "give a run folder, or a .safetensors or .onnx file of this package"
    raise UserError(f"no model {str(model)!r}{did_you_mean(str(model), known)}: {wanted}{listing}")


def _check_readable(path: Path) -> None:
    """Raise UserError if the file cannot be opened; safetensors reports any such file as missing."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def model_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint (fp16 becomes fp32), without the optimizer state."""
    prefix = WEIGHTS_PREFIX
    return _in_fp32({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})


def _in_fp32(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for name, t in weights.items()}


def _shipped_confidence(name: str) -> Confidence | None:
    measured = json.loads(CONFIDENCE.read_text()) if CONFIDENCE.is_file() else {}
    return Confidence.from_dict(measured[name]) if name in measured else None


def read_model(model: str | Path) -> tuple[dict[str, torch.Tensor], Card]:
    """Read the weights (fp32, on the CPU) and the card of MODEL, which may also be a hub model.

    Raises UserError for an unknown MODEL or a damaged file.
    """
    if is_hub(model):
        weights, card = read_hub(model)
        weights = _in_fp32(weights)
    else:
        tensors, header = read_checkpoint(path := resolve_model(model))
        weights, card = model_weights(tensors), Card.from_header(header, path)
        if path.parent == WEIGHTS:
            card = replace(card, confidence=_shipped_confidence(path.stem) or card.confidence)
    check_weights(weights, model)
    return weights, card


def load(
    model: str | Path, device: str | torch.device = "cpu", *, engine: str = "auto", precision: str = "auto"
) -> Classifier:
    """Load the trained network of MODEL, in eval mode, with ``.classes`` and ``.preprocess``.

    MODEL: a run folder, a ``.safetensors`` or ``.onnx`` file of this package, the name of shipped weights,
    ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``. ``preprocess`` turns a PIL image into the network's input, a
    (C, H, W) float tensor.
    ``engine`` and ``precision`` apply only to ``.onnx`` files (`ExportedClassifier`).

    Raises:
        UserError: an unknown MODEL or a damaged file.

    Example:
        >>> from PIL import Image
        >>> model = load("attention56_cifar.cifar10")
        >>> photo = Image.new("RGB", (320, 240), "navy")
        >>> logits = model(model.preprocess(photo)[None])  # (1, 10)
        >>> [(name, share), *others] = model.predict(photo)[0]
        >>> name in model.classes
        True
    """
    check_engine(engine)
    if not is_hub(model) and (path := resolve_model(model)).suffix == ".onnx":
        return ExportedClassifier(path, engine, precision)
    given, card = read_model(model)
    card.require_task(CLASSIFICATION, model)
    require(card.plugins, str(model))
    try:
        kind, arguments = constructor(card.model, **card.overrides)
        # On the meta device there is no initialisation; timm's networks have buffers that no file holds.
        with torch.device("cpu" if kind is TrunkNetwork else "meta"):
            network = TRAINED[kind](**arguments)
    except (UserError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{model} describes a network that cannot be built: {error}") from error
    if len(card.classes) != network.num_classes:
        raise CheckpointError(f"{model} is damaged: {len(card.classes)} classes for {network.num_classes} outputs")
    try:
        weights = {name: tensor.clone() for name, tensor in given.items()}  # the file may change
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {model} do not match the network it describes: {error}") from error
    network.describe(card)
    return network.eval().to(device)
