"""The figures of a run: learning curves and confusion matrix. PNG files, drawn without a display."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..palette import BLUE, GRAY, GREEN, ORANGE, by_epoch, new_figure, plain_ticks, shortened, shortened_file
from ..training.page import read_metrics

NUMBERED_CLASSES = 20  # up to this many, the confusion matrix shows its counts
PRECISION_LABELS = 8  # drawn, the most frequent ones
LEGEND_WIDTH = 110  # characters of a run's name
NAMED_CLASSES = 50  # beyond this, only every n-th class is named


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) if row.get(name) else np.nan for row in rows])


def _curve(axes: Axes, epochs: np.ndarray, rows: list[dict[str, str]], what: str, label: str) -> None:
    for split, name, colour in (("train", "training (augmented)", GRAY), ("val", "validation", BLUE)):
        values = _column(rows, f"{split}_{what}")
        if not np.isnan(values).all():
            axes.plot(epochs, values, color=colour, label=name, marker="o" if len(epochs) < 3 else None)
    by_epoch(axes)
    axes.set(ylabel=label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _mark(axes: Axes, x: float, y: float, offset: int) -> None:
    """Mark the best epoch, its value ``offset`` points above it."""
    axes.plot(x, y, "o", color=ORANGE)
    axes.annotate(f"{y:.2f} %", (x, y), textcoords="offset points", xytext=(0, offset), ha="center", color=ORANGE)


def _error_curve(axes: Axes, epochs: np.ndarray, rows: list[dict[str, str]]) -> None:
    _curve(axes, epochs, rows, "error_pct", "error (%)")
    axes.set_ylim(bottom=0)
    val = _column(rows, "val_error_pct")
    if not np.isnan(val).all():
        best = int(np.nanargmin(val))
        _mark(axes, epochs[best], val[best], 9)


def _f1_curve(axes: Axes, epochs: np.ndarray, rows: list[dict[str, str]]) -> None:
    """F1 of both splits, and the mAP that selects the best epoch."""
    _curve(axes, epochs, rows, "f1_pct", "F1 over all labels, and mAP (%)")
    val = _column(rows, "val_map_pct")
    if not np.isnan(val).all():
        axes.plot(epochs, val, color=GREEN, label="validation, mAP", marker="o" if len(epochs) < 3 else None)
        best = int(np.nanargmax(val))
        _mark(axes, epochs[best], val[best], -14)
        axes.legend(frameon=False)


def _panels(count: int, height_in: float, stacked: bool) -> tuple[Figure, Sequence[Axes]]:
    """``count`` panels side by side, or one above the other for a narrow screen."""
    figure = new_figure(5, 3.4 * count) if stacked else new_figure(12, height_in)
    return figure, figure.subplots(*((count, 1) if stacked else (1, count)), squeeze=False).flat  # type: ignore[return-value]


def draw_curves(metrics_csv: Path, out: Path, *, stacked: bool = False) -> None:
    """Loss, error (or F1 and mAP) and learning rate by epoch, from ``metrics.csv``."""
    rows = read_metrics(metrics_csv)
    epochs = _column(rows, "epoch")
    several = "train_f1_pct" in rows[0]
    figure, (loss, reached, rate) = _panels(3, 3.6, stacked)
    _curve(loss, epochs, rows, "loss", "binary cross-entropy (nats a label)" if several else "cross-entropy (nats)")
    loss.set_yscale("log")
    plain_ticks(loss.yaxis)
    (_f1_curve if several else _error_curve)(reached, epochs, rows)
    rate.plot(epochs, _column(rows, "lr"), color=GRAY, marker="o" if len(rows) < 3 else None)
    by_epoch(rate)
    rate.set(ylabel="learning rate at end of epoch", ylim=(0, None))
    rate.grid(alpha=0.25)
    figure.savefig(out)


def draw_confusion(confusion: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str], out: Path) -> None:
    """Rows are true classes (each 100 %), columns predicted classes; counts are printed for up to 20 classes."""
    counts = np.asarray(confusion, dtype=float)
    number = len(classes)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.5 * number + 2.5, 5, 14))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    every = max(1, -(-number // NAMED_CLASSES))
    ticks = list(range(0, number, every))
    names = [shortened(classes[i]) for i in ticks]
    size = 9 if number <= NUMBERED_CLASSES else 7
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    if number <= NUMBERED_CLASSES:
        for i in range(number):
            for j in range(number):
                if counts[i, j]:
                    colour = "white" if shares[i, j] > 55 else "black"
                    axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(picture, ax=axes, label="% of the true class", shrink=0.8)
    figure.savefig(out)


class _Bins(NamedTuple):
    """Of each bin of confidence that has images: their number, mean confidence and accuracy."""

    count: Tensor
    confidence: Tensor
    accuracy: Tensor


def _binned(probabilities: Tensor, labels: Tensor, bins: int) -> _Bins:
    """Equal-width bins of confidence; ``count`` (bins,) includes the empty ones."""
    confidence, predicted = probabilities.max(dim=1)
    right = (predicted == labels).double()
    place = (confidence * bins).long().clamp(max=bins - 1)
    count = torch.bincount(place, minlength=bins).double()
    filled = count > 0
    accuracy = torch.bincount(place, weights=right, minlength=bins)[filled] / count[filled]
    stated = torch.bincount(place, weights=confidence.double(), minlength=bins)[filled] / count[filled]
    return _Bins(count, stated, accuracy)


def draw_calibration(
    probabilities: Tensor, labels: Tensor, out: Path, bins: int = 15, *, calibrated: Tensor | None = None
) -> None:
    """Accuracy against confidence in equal-width bins, and the number of images in each bin.

    Args:
        probabilities, calibrated: (N, K), before and after temperature scaling; labels: (N,).
    """
    found = _binned(probabilities, labels, bins)
    figure = new_figure(5.6, 5)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 100], [0, 100], color=GRAY, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.plot(100 * found.confidence, 100 * found.accuracy, color=BLUE, marker="o", label="this network")
    count = found.count
    if calibrated is not None:
        after = _binned(calibrated, labels, bins)
        axes.plot(100 * after.confidence, 100 * after.accuracy, color=ORANGE, marker="o", label="with its temperature")
        count = after.count
    axes.set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 102))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    below.bar((np.arange(bins) + 0.5) * 100 / bins, count.numpy(), width=90 / bins, color=GRAY)
    below.set(xlabel="confidence of the predicted class (%)", ylabel="images", yscale="log")
    plain_ticks(below.yaxis)
    plain_ticks(below.yaxis)
    figure.savefig(out)


def draw_risk_coverage(points: Sequence[Sequence[float]], out: Path) -> None:
    """The error among the images answered, and the threshold that gives it, against the share answered.

    Args:
        points: (threshold, answered, wrong), as `calibration.risk_coverage` returns them.
    """
    threshold, answered, wrong = np.array(points, dtype=float).T
    coverage = 100 * answered / answered[-1]
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    axes.plot(coverage, 100 * wrong / answered, color=BLUE, label="error among those answered")
    axes.set(xlabel="images answered, most confident first (%)", ylabel="error (%)", xlim=(0, 100), ylim=(0, None))
    axes.grid(alpha=0.25)
    right = axes.twinx()
    right.plot(coverage, threshold, color=GRAY, linestyle="--", label="least probability answered")
    right.set(ylabel="probability", ylim=(0, 1.02))
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    figure.savefig(out)


def draw_precision_recall(
    probabilities: Tensor, labels: Tensor, per_class: Sequence[Mapping[str, Any]], out: Path
) -> None:
    """Precision against recall of up to `PRECISION_LABELS` labels, the most frequent ones, with their thresholds.

    Args:
        probabilities, labels: (N, K); per_class: as `multilabel.multilabel_measures` gives it.
    """
    from sklearn.metrics import precision_recall_curve

    known = [k for k, row in enumerate(per_class) if row["images"]]
    shown = sorted(known, key=lambda k: -per_class[k]["images"])[:PRECISION_LABELS]
    figure = new_figure(7.4, 4.6)
    axes = figure.subplots()
    styles = [(colour, line) for line in ("-", "--") for colour in (BLUE, ORANGE, GREEN, GRAY)]
    for k, (colour, line) in zip(shown, styles, strict=False):
        row = per_class[k]
        precision, recall, _ = precision_recall_curve(labels[:, k].numpy(), probabilities[:, k].double().numpy())
        label = f"{shortened(row['class'])}: AP {row['ap_pct']:.1f} %"
        axes.plot(100 * recall, 100 * precision, color=colour, linestyle=line, label=label)
        if row["precision_pct"] is not None:
            axes.plot(row["recall_pct"], row["precision_pct"], "o", color=colour)
    axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 102), ylim=(0, 104))
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(out)


def draw_compared_curves(runs: Sequence[tuple[str, Path]], out: Path, *, stacked: bool = False) -> None:
    """Validation error (or mAP) and training loss by epoch of several runs, given as (name, metrics.csv)."""
    tables = []
    for name, metrics in runs:
        if metrics.is_file():
            tables.append((name, read_metrics(metrics)))
    several = ["val_map_pct" in rows[0] for _, rows in tables]
    columns = {"val_error_pct": "validation error (%)"} if not all(several) or not tables else {}
    columns |= {"val_map_pct": "validation mAP (%)"} if any(several) else {}
    columns |= {"train_loss": "training loss (nats, augmented)"}
    figure, panels = _panels(len(columns), 4, stacked)
    longest = LEGEND_WIDTH // 2 if stacked else LEGEND_WIDTH
    styles = [(colour, line) for line in ("-", "--", ":") for colour in (BLUE, ORANGE, GREEN, GRAY)]
    for axes, (column, label) in zip(panels, columns.items(), strict=True):
        for (name, rows), (colour, line) in zip(tables, itertools.cycle(styles), strict=False):
            marker = "o" if len(rows) < 3 else None
            values = _column(rows, column)
            shown = shortened_file(name, longest)
            axes.plot(_column(rows, "epoch"), values, color=colour, linestyle=line, marker=marker, label=shown)
        by_epoch(axes)
        axes.set(ylabel=label)
        if column == "train_loss":
            axes.set_yscale("log")
            plain_ticks(axes.yaxis)
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    handles = panels[0].get_legend_handles_labels()
    abreast = 1 if stacked or any(len(name) > longest // 2 for name, _ in runs) else 2
    figure.legend(*handles, loc="outside lower center", frameon=False, ncols=abreast, fontsize=8)
    figure.savefig(out)
