"""``ran export``: writes the file and checks it on real images."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import write_atomically
from ..checkpoints import Classifier, load
from ..checkpoints.confidence import Confidence
from ..checkpoints.exported import ExportedClassifier, present_engines
from ..checkpoints.own_data import split_for
from ..classification.multilabel import mean_ap_pct
from ..data.loading import evaluation_batches
from ..data.sources import would_download
from ..data.splits import evenly_spaced
from ..devices import provenance
from ..errors import DataNotFoundError, ExportError, UserError
from .int8 import CALIBRATION_IMAGES, quantize
from .onnx import export_onnx, require_exporter

CHECKED_IMAGES = 1000
BATCH = 50


@dataclass(frozen=True)
class Images:
    """Preprocessed images (N, C, S, S) of a split, and their labels (N,), or (N, K) of a multi-label classifier."""

    images: Tensor
    labels: Tensor
    split: str


def real_images(
    model: Classifier, data: str | None, data_dir: Path | None, split: str, limit: int, *, download: bool = True
) -> Images | None:
    """Evenly spaced images of a split; None if no data are given and the training data are not on this machine.

    ``download``: whether to fetch them then, if they are a named data set.

    Raises UserError if the data that were given cannot be read, or if they lack the split.
    """
    trained = model.card.config
    if not download and data is None and would_download(trained.get("data"), data_dir or trained.get("data_dir")):
        return None
    try:
        _, samples, _ = split_for(model, data, split=split, data_dir=data_dir)
    except DataNotFoundError:
        if data is not None or data_dir is not None:
            raise
        return None
    index = evenly_spaced(len(samples), limit)
    batches = list(
        evaluation_batches(samples.subset(index), model.preprocess, batch_size=BATCH, device=torch.device("cpu"))
    )
    return Images(torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches]), split)


@torch.no_grad()
def _logits(model: torch.nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(part) for part in images.split(BATCH)])


def _agreement(confidence: Confidence, expected: Tensor, found: Tensor, labels: Tensor) -> dict[str, float]:
    """The answers of PyTorch's logits and of the exported network's, (N, K) each, beside the true labels."""
    if confidence.several:
        given, wanted = (confidence.given(confidence.probabilities(logits)) for logits in (found, expected))
        return {
            "images": len(labels),
            "same_labels_pct": 100 * (given == wanted).all(dim=1).double().mean().item(),
            "mean_ap_pct": mean_ap_pct(confidence.probabilities(found), labels),
            "pytorch_mean_ap_pct": mean_ap_pct(confidence.probabilities(expected), labels),
        }
    answers, wanted = found.argmax(dim=1), expected.argmax(dim=1)
    return {
        "images": len(labels),
        "same_top1_pct": 100 * (wanted == answers).double().mean().item(),
        "error_pct": 100 * (answers != labels).double().mean().item(),
        "pytorch_error_pct": 100 * (wanted != labels).double().mean().item(),
    }


def _differing(confidence: Confidence, expected: Tensor, found: Tensor, allowed: float) -> int:
    """The number of images that the exported network answers otherwise than PyTorch.

    A label whose logit lies within the ``allowed`` rounding of its threshold may be given by one of them.
    """
    if not confidence.several:
        return int((expected.argmax(dim=1) != found.argmax(dim=1)).sum())
    shares = [confidence.given(confidence.probabilities(logits)) for logits in (expected, found)]
    thresholds = torch.tensor(confidence.thresholds, dtype=torch.float64)
    close = (expected.double() - confidence.temperature * thresholds.logit()).abs() <= allowed
    return int(((shares[0] != shares[1]) & ~close).any(dim=1).sum())


@dataclass(frozen=True)
class _Answers:
    """PyTorch's logits for the images checked, (N, K): what an exported file is compared with."""

    confidence: Confidence
    expected: Tensor
    checked: Images

    def agreement(self, file: Path, *, allowed: float | None = None) -> dict[str, float]:
        """The figures of both. Raises ExportError if an answer differs by more than the ``allowed`` rounding."""
        found = _logits(ExportedClassifier(file, "onnxruntime", "fp32"), self.checked.images)
        if allowed is not None and (differing := _differing(self.confidence, self.expected, found, allowed)):
            raise ExportError(
                f"the exported network answers otherwise than PyTorch for {differing} of {len(found)} images"
            )
        return _agreement(self.confidence, self.expected, found, self.checked.labels)


def deploy(
    model: str,
    out: Path,
    *,
    masks: bool = False,
    int8: bool = False,
    data: str | None = None,
    data_dir: Path | None = None,
) -> dict[str, Any]:
    """Export MODEL to ``out``; returns JSON values about the file and its checks.

    The fp32 file must give the same top class, or labels, as PyTorch for every image checked. These come from the test
    split, since nothing is selected on them. ``int8`` calibrates on training images; its accuracy is reported beside
    fp32's.

    Raises:
        ExportError: the exported network and PyTorch disagree; nothing is written.
        UserError: unknown model or data, missing packages, or int8 without images.
    """
    started = time.perf_counter()
    require_exporter()
    network = load(model)
    if isinstance(network, ExportedClassifier):
        raise UserError(f"{model} is already exported")
    size, chans = network.preprocess.image_size, network.preprocess.in_chans
    checked = real_images(network, data, data_dir, "test", CHECKED_IMAGES, download=int8)
    calibration = real_images(network, data, data_dir, "train", CALIBRATION_IMAGES) if int8 else None
    if int8 and calibration is None:
        raise UserError("--int8 needs calibration images: give --data or --data-dir")
    card = replace(network.card, train_images=None)
    result: dict[str, Any] = {"model": model, "file": str(out), "masks": masks, "precision": "int8" if int8 else "fp32"}
    with tempfile.TemporaryDirectory() as folder:
        final = plain = Path(folder) / "fp32.onnx"
        parity = export_onnx(network, card, plain, image_size=size, in_chans=chans, masks=masks)
        result |= {"max_logit_difference": parity.difference, "allowed": parity.allowed, "engines": present_engines()}
        answers = None if checked is None else _Answers(card.confidence, _logits(network, checked.images), checked)
        if answers is not None:
            result["fp32_on_images"] = answers.agreement(plain, allowed=parity.allowed)
        if calibration is not None:
            final = Path(folder) / "int8.onnx"
            quantize(plain, final, calibration.images)
            if answers is not None:
                result["int8_on_images"] = answers.agreement(final)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, final.read_bytes())
    result |= {"bytes": out.stat().st_size, "time_s": round(time.perf_counter() - started, 1)}
    return result | provenance(torch.device("cpu"))
