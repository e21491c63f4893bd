"""Multi-label measures: average precision, and precision, recall and F1 at thresholds that validation images chose."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

UNCHOSEN = 0.5  # the threshold of a label that no validation image has


def average_precisions(probabilities: Tensor, labels: Tensor) -> list[float | None]:
    """The average precision of each label, from 0 to 1: (N, K) each, ``labels`` of 0 and 1. None without a positive."""
    from sklearn.metrics import average_precision_score

    shares, truth = probabilities.nan_to_num().double().numpy(), labels.numpy()
    return [
        float(average_precision_score(truth[:, label], shares[:, label])) if truth[:, label].any() else None
        for label in range(truth.shape[1])
    ]


def mean_ap_pct(probabilities: Tensor, labels: Tensor) -> float:
    """mAP in percent: the mean of `average_precisions` over the labels that some image has; 0 if there is none."""
    known = [value for value in average_precisions(probabilities, labels) if value is not None]
    return 100.0 * sum(known) / len(known) if known else 0.0


def _best_threshold(probabilities: Tensor, positive: Tensor) -> float:
    """The threshold of the largest F1, midway between the last probability that it gives and the next one."""
    shares, order = probabilities.double().sort(descending=True, stable=True)
    hits = positive[order].double().cumsum(0)
    if hits[-1] == 0:
        return UNCHOSEN
    f1 = 2 * hits / (torch.arange(1, len(hits) + 1) + hits[-1])
    after = torch.cat([shares[1:], shares.new_zeros(1)])
    f1[shares == after] = -1.0  # equal probabilities are given together
    best = int(f1.argmax())
    return float((shares[best] + after[best]) / 2)


def best_thresholds(probabilities: Tensor, labels: Tensor) -> tuple[float, ...]:
    """For each label the threshold of the largest F1 on these images, (N, K) each; 0.5 for a label of none of them."""
    return tuple(map(_best_threshold, probabilities.T, labels.T))


def f1_pct(right: float, wrong: float, missed: float) -> float | None:
    """F1 in percent of so many true positives, false positives and false negatives; None if all are 0."""
    return _percentage(2 * right, 2 * right + wrong + missed)


def _percentage(part: float, whole: float) -> float | None:
    return 100.0 * part / whole if whole else None


def multilabel_measures(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str], thresholds: Sequence[float]
) -> dict[str, Any]:
    """Figures of (N, K) probabilities and labels of 0 and 1, with each label's threshold, as JSON values.

    Returns ``images``; ``mean_ap_pct``; ``macro_f1_pct``, the mean over the labels that some image has, and
    ``micro_f1_pct``, over all labels of all images together; ``exact_pct``, the share of images of which every label is
    right; ``ece_pct``, the expected calibration error over all labels of all images; and ``per_class``: threshold,
    number of images, average precision, F1, precision and recall in percent (None if the denominator is 0).
    """
    from torchmetrics.functional.classification import binary_calibration_error

    given = probabilities.double() >= torch.tensor(thresholds, dtype=torch.float64)
    truth = labels.bool()
    right, wrong, missed = (part.sum(dim=0).tolist() for part in (given & truth, given & ~truth, ~given & truth))
    ranked = average_precisions(probabilities, labels)
    per_class = [
        {
            "class": name,
            "images": right[i] + missed[i],
            "threshold": float(thresholds[i]),
            "ap_pct": None if (found := ranked[i]) is None else 100.0 * found,
            "f1_pct": f1_pct(right[i], wrong[i], missed[i]) if right[i] + missed[i] else None,
            "precision_pct": _percentage(right[i], right[i] + wrong[i]),
            "recall_pct": _percentage(right[i], right[i] + missed[i]),
        }
        for i, name in enumerate(classes)
    ]
    known = [row["f1_pct"] for row in per_class if row["f1_pct"] is not None]
    flat = (probabilities.float().flatten(), labels.long().flatten())
    return {
        "images": len(labels),
        "mean_ap_pct": mean_ap_pct(probabilities, labels),
        "macro_f1_pct": sum(known) / len(known) if known else None,
        "micro_f1_pct": f1_pct(sum(right), sum(wrong), sum(missed)),
        "exact_pct": 100.0 * (given == truth).all(dim=1).double().mean().item(),
        "ece_pct": 100.0 * binary_calibration_error(*flat, n_bins=15, norm="l1").item(),
        "per_class": per_class,
    }


def figures_text(part: Mapping[str, Any]) -> str:
    """``mAP 81.20 %``, and with thresholds ``mAP 81.20 %   F1 74.10 % over labels, 80.25 % over all answers``."""
    text = f"mAP {part['mean_ap_pct']:6.2f} %"
    if "macro_f1_pct" not in part or part["macro_f1_pct"] is None:
        return text
    return f"{text}   F1 {part['macro_f1_pct']:.2f} % over labels, {part['micro_f1_pct']:.2f} % over all answers"
