"""Metrics of a classifier from its probabilities and the true labels, by torchmetrics."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from .interval import wilson_interval_pct
from .metrics import METRICS, measured

ECE_BINS = 15


def _percentage(part: int, whole: int) -> float | None:
    """Percentage; None if ``whole`` is 0."""
    return 100.0 * part / whole if whole else None


def mean_loss(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of logits (N, K) and labels (N,), or binary cross-entropy where labels are a matrix (N, K)."""
    if labels.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction=reduction)
    return F.cross_entropy(logits, labels, reduction=reduction)


def calibration_error_pct(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error in percent, over 15 bins (Guo et al., 2017)."""
    count = probabilities.shape[1]
    error = multiclass_calibration_error(probabilities, labels, num_classes=count, n_bins=ECE_BINS, norm="l1")
    return 100.0 * error.item()


def classification_measures(probabilities: Tensor, labels: Tensor, classes: list[str]) -> dict[str, Any]:
    """Errors, calibration, per-class figures and confusion matrix, as JSON values.

    Args:
        probabilities: (N, K) float.
        labels: (N,) int64.
        classes: K names.

    Returns ``top1_error_pct`` with ``error_interval_pct`` (95 %), ``balanced_error_pct`` (the mean of the classes'
    errors), ``top5_error_pct`` (None for five classes or fewer), ``images``, ``ece_pct`` (expected calibration error
    over 15 bins, Guo et al. 2017), ``per_class`` (error and precision in percent, None if the denominator is 0),
    ``confusion`` (rows true, columns predicted), and ``metrics`` by name if plugins
    registered any.
    """
    count = len(classes)
    confusion = multiclass_confusion_matrix(probabilities, labels, num_classes=count)
    right = confusion.diagonal()
    of_class, predicted = confusion.sum(1).tolist(), confusion.sum(0).tolist()
    per_class = []
    for i, name in enumerate(classes):
        hits = int(right[i])
        per_class.append(
            {
                "class": name,
                "images": of_class[i],
                "error_pct": _percentage(of_class[i] - hits, of_class[i]),
                "precision_pct": _percentage(hits, predicted[i]),
            }
        )
    errors = [row["error_pct"] for row in per_class if row["error_pct"] is not None]
    top5 = (probabilities.topk(min(5, count), dim=1).indices == labels[:, None]).any(dim=1)
    return {
        "images": len(labels),
        "top1_error_pct": 100.0 * (1.0 - right.sum().item() / len(labels)),
        "error_interval_pct": list(wilson_interval_pct(len(labels) - int(right.sum()), len(labels))),
        "balanced_error_pct": sum(errors) / len(errors),
        "top5_error_pct": 100.0 * (1.0 - top5.double().mean().item()) if count > 5 else None,
        "ece_pct": calibration_error_pct(probabilities, labels),
        "per_class": per_class,
        "confusion": confusion.to(torch.int64).tolist(),
        **({"metrics": measured(probabilities, labels)} if len(METRICS) else {}),
    }
