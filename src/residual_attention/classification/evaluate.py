"""Evaluate a classifier on a split in one pass, exact for any number of processes; ``ran eval``."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..checkpoints import load
from ..checkpoints.confidence import Confidence
from ..checkpoints.own_data import split_for
from ..data.loading import EvalBatch, evaluation_batches
from ..data.preprocess import Preprocess
from ..devices import DTYPES, resolve_device, resolve_precision
from ..errors import UserError
from ..family.modes import evaluating
from .measures import calibration_error_pct, classification_measures, mean_loss
from .multilabel import multilabel_measures
from .ten_crop import TenCrop
from .views import Mirrored, Views

DEFAULT_CROP_PCT = 224 / 256  # for models trained without one


@dataclass(frozen=True)
class Evaluation:
    """The predictions of N samples of K classes, in the split's order.

    ``loss`` is the mean cross-entropy in nats, binary and averaged over labels too where ``several`` are possible;
    ``logits`` and ``probabilities`` (their softmax or sigmoid, not calibrated) (N, K) float32, ``labels`` (N,) int64
    or (N, K) float32 of 0 and 1, and ``indices`` (N,) int64, on the CPU.
    """

    loss: float
    logits: Tensor
    probabilities: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        return self.labels.ndim == 2

    @cached_property
    def top1_error_pct(self) -> float:
        """In percent, with one class per image."""
        return error_pct(self.logits, self.labels)


def _gather_processes(batches: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Concatenate the batches of all processes; some may have none."""
    if dist.is_available() and dist.is_initialized():
        everyone: list = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, batches)
        batches = [batch for theirs in everyone for batch in theirs]
    return tuple(torch.cat(columns) for columns in zip(*batches, strict=True))


def error_pct(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percentage of rows of (N, K) whose label is not among the k largest."""
    hits = (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1)
    return 100.0 * (1.0 - hits.double().mean().item())


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[EvalBatch], *, precision: torch.dtype = torch.float32) -> Evaluation:
    """Evaluate ``model`` in eval mode (its mode is restored) under autocast to ``precision``.

    Loss and probabilities are computed in fp32 from the logits.
    """
    parts = []
    with evaluating(model):
        for batch in batches:
            device = batch.images.device
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                output = model(batch.images.contiguous(memory_format=torch.channels_last))
            parts.append((output.float().cpu(), batch.labels.cpu(), batch.indices))
    all_logits, all_labels, all_indices = _gather_processes(parts)
    order = all_indices.argsort()
    all_logits, all_labels = all_logits[order], all_labels[order]
    return Evaluation(
        loss=mean_loss(all_logits.double(), all_labels).item(),
        logits=all_logits,
        probabilities=all_logits.sigmoid() if all_labels.ndim == 2 else all_logits.softmax(dim=1),
        labels=all_labels,
        indices=all_indices[order],
    )


def _uncropped(preprocess: Preprocess) -> Preprocess:
    """Preprocessing that keeps the scaled image's whole central square, for ten crops."""
    if preprocess.resize != "crop":
        raise UserError(f"--ten-crop is for models trained with --resize crop, not {preprocess.resize}")
    share = preprocess.crop_pct if preprocess.crop_pct < 1 else DEFAULT_CROP_PCT
    return replace(preprocess, image_size=round(preprocess.image_size / share), crop_pct=1.0)


def calibrated_measures(result: Evaluation, confidence: Confidence) -> dict[str, float]:
    """Temperature, and the loss and calibration error that dividing the logits by it gives."""
    logits, labels = result.logits.double() / confidence.temperature, result.labels
    loss = mean_loss(logits, labels).item()
    if confidence.several:  # its figures are of calibrated probabilities
        return {"temperature": confidence.temperature, "loss": loss}
    return {
        "temperature": confidence.temperature,
        "loss": loss,
        "ece_pct": calibration_error_pct(logits.softmax(dim=1).float(), labels),
    }


def _measures(result: Evaluation, confidence: Confidence, classes: list[str]) -> dict[str, Any]:
    """Figures of a split; with several labels per image, at the thresholds of their calibrated probabilities."""
    if not confidence.several:
        return classification_measures(result.probabilities, result.labels, classes)
    shares = confidence.probabilities(result.logits)
    return multilabel_measures(shares, result.labels, classes, confidence.thresholds)


OF_VIEWS = ("top1_error_pct", "error_interval_pct", "top5_error_pct", "ece_pct")
MULTILABEL_OF_VIEWS = ("mean_ap_pct", "macro_f1_pct", "micro_f1_pct", "exact_pct", "ece_pct")


def _apart(views: Views, result: Evaluation, confidence: Confidence, classes: list[str]) -> dict[str, Any]:
    """The few figures of test-time augmentation, whose logits are of calibrated probabilities."""
    measures = _measures(result, replace(confidence, temperature=1.0), classes)
    kept = MULTILABEL_OF_VIEWS if confidence.several else OF_VIEWS
    return {"views": views, "loss": result.loss, **{name: measures[name] for name in kept}}


def evaluate_model(
    model: str,
    data: str | None = None,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "fp32",
    workers: int = 0,
    engine: str = "auto",
    image_size: int | None = None,
    ten_crop: bool = False,
    views: Views = "none",
) -> dict[str, Any]:
    """Evaluate MODEL on a split of DATA with the preprocessing of its training; returns JSON values.

    ``image_size`` overrides the side of the square input (the paper tests at 224 and 320 px). ``ten_crop`` averages
    over ten crops of that size from the scaled image's central square, instead of using the central crop. ``views``
    adds the figures of averaging over several views of each image, apart from the others.

    Raises UserError (ImageError included): a class unknown to the model, a missing split, an unreadable image.
    """
    place = resolve_device(device)
    dtype = DTYPES[resolve_precision(precision, place)]
    network = load(model, place, engine=engine, precision="fp32" if precision == "fp16" else precision)
    if image_size is not None:
        network.preprocess = replace(network.preprocess, image_size=image_size)
    size = network.preprocess.image_size
    classifier = TenCrop(network, size) if ten_crop else network
    preprocess = network.preprocess = _uncropped(network.preprocess) if ten_crop else network.preprocess
    if ten_crop and views != "none":
        raise UserError("--ten-crop mirrors its crops already; drop --tta")
    data, samples, notices = split_for(network, data, split=split, data_dir=data_dir)

    def evaluated(model: nn.Module) -> Evaluation:
        batches = evaluation_batches(samples, preprocess, batch_size=batch_size, device=place, workers=workers)
        return evaluate(model, batches, precision=dtype)

    result, confidence = evaluated(classifier), network.card.confidence
    if not math.isfinite(result.loss):
        raise UserError(f"{model}: its answers to {data} are not finite; the model cannot be evaluated")
    return {
        "model": model,
        "data": data,
        "split": split,
        "loss": result.loss,
        **_measures(result, confidence, network.classes),
        "tta": None if views == "none" else _apart(views, evaluated(Mirrored(network)), confidence, network.classes),
        "classes": network.classes,
        "image_size_px": size,
        "crops": 10 if ten_crop else 1,
        "calibrated": calibrated_measures(result, confidence),
        "precision": precision,
        "engine": getattr(network, "engine", "pytorch"),
        "notices": notices,
    }
