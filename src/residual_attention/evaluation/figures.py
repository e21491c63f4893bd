"""The figures of a run: learning curves, confusion matrix, attention masks. PNG files, drawn without a display."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..attention.overlay import as_picture, display_range, mask_overlay, reduce_mask

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito: told apart with any colour vision
DPI = 130
NUMBERED_CLASSES = 20  # up to this many, the confusion matrix shows its counts
NAMED_CLASSES = 50  # beyond, only every n-th class is named


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure with its own canvas: no global state, so that threads may draw."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) if row.get(name) else np.nan for row in rows])


def _curve(axes: Axes, epochs: np.ndarray, rows: list[dict[str, str]], what: str, label: str) -> None:
    for split, name, colour in (("train", "training (augmented)", GRAY), ("val", "validation", BLUE)):
        values = _column(rows, f"{split}_{what}")
        if not np.isnan(values).all():
            axes.plot(epochs, values, color=colour, label=name, marker="o" if len(epochs) < 3 else None)
    axes.set(xlabel="epoch", ylabel=label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def draw_curves(metrics_csv: Path, out: Path) -> None:
    """Loss, error and learning rate by epoch, from ``metrics.csv``."""
    with open(metrics_csv, newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = _column(rows, "epoch")
    figure = new_figure(12, 3.6)
    loss, error, rate = figure.subplots(1, 3)
    _curve(loss, epochs, rows, "loss", "cross-entropy (nats)")
    _curve(error, epochs, rows, "error_pct", "error (%)")
    loss.set_yscale("log")
    error.set_ylim(bottom=0)
    val = _column(rows, "val_error_pct")
    if not np.isnan(val).all():
        best = int(np.nanargmin(val))
        error.plot(epochs[best], val[best], "o", color=ORANGE)
        error.annotate(
            f"{val[best]:.2f} %",
            (epochs[best], val[best]),
            textcoords="offset points",
            xytext=(0, 9),
            ha="center",
            color=ORANGE,
        )
    rate.plot(epochs, _column(rows, "lr"), color=GRAY, marker="o" if len(rows) < 3 else None)
    rate.set(xlabel="epoch", ylabel="learning rate at the epoch's end", ylim=(0, None))
    rate.grid(alpha=0.25)
    figure.savefig(out)


def _shortened(name: str, longest: int = 18) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def draw_confusion(confusion: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str], out: Path) -> None:
    """Rows are true classes in percent of each, columns what was predicted; counts inside up to 20 classes."""
    counts = np.asarray(confusion, dtype=float)
    number = len(classes)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.5 * number + 2.5, 5, 14))
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    every = max(1, -(-number // NAMED_CLASSES))
    ticks = list(range(0, number, every))
    names = [_shortened(classes[i]) for i in ticks]
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


def _mark(axes: Axes, title: str, colour: str = "black") -> None:
    axes.set_title(title, fontsize=8, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])


def _enlarged(picture: np.ndarray, least: int = 128) -> np.ndarray:
    """Small images by whole factors without blur, so that a smooth mask can lie over sharp pixels."""
    factor = max(1, -(-least // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_attention(
    images: Tensor,
    truth: Sequence[str],
    predicted: Sequence[str],
    confidences: Sequence[float],
    masks: Mapping[str, Tensor],
    out: Path,
    *,
    signed: bool = False,
) -> None:
    """One row an image: the image with its prediction, then each module's mask over it, low to high level.

    Args:
        images: (N, C, H, W) uint8.
        masks: module name -> (N, C, h, w), as `attention_masks` returns them; drawn as their mean over channels,
            each map over its own range, which is printed above it.
    """
    pictures = as_picture(images)
    columns = 1 + len(masks)
    blocks = 2 if len(pictures) >= 6 and columns <= 5 else 1  # side by side, so that the figure is not a ribbon
    rows = -(-len(pictures) // blocks)
    figure = new_figure(1.9 * columns * blocks, 2.05 * rows + 0.5)
    parts = np.atleast_1d(figure.subfigures(1, blocks, wspace=0.03))
    for part, first in zip(parts, range(0, len(pictures), rows), strict=False):
        grid = part.subplots(rows, columns, squeeze=False)
        for row, axes in enumerate(grid):
            if first + row < len(pictures):
                index = first + row
                title = _prediction_title(truth[index], predicted[index], confidences[index])
                of_image = {name: mask[index].cpu() for name, mask in masks.items()}
                _draw_row(axes, pictures[index], title, of_image, signed=signed, heading=row == 0)
            else:
                for empty in axes:
                    empty.set_axis_off()
    scale = "purple negative, orange positive" if signed else "dark low, bright high"
    figure.suptitle(f"Attention masks, mean over channels ({scale}; each over its own range)", fontsize=9)
    figure.savefig(out)


def _prediction_title(truth: str, predicted: str, confidence: float) -> tuple[str, str]:
    """The line above an image, and its colour: black when right."""
    title = f"{_shortened(predicted)} {100 * confidence:.0f} %"
    return (title, "black") if truth == predicted else (f"{title}\n(true: {_shortened(truth)})", ORANGE)


def _draw_row(
    axes: np.ndarray,
    small: np.ndarray,
    title: tuple[str, str],
    masks: Mapping[str, Tensor],
    *,
    signed: bool,
    heading: bool,
) -> None:
    picture = _enlarged(small)
    axes[0].imshow(picture)
    _mark(axes[0], *title)
    for place, (name, mask) in zip(axes[1:], masks.items(), strict=True):
        reduced = reduce_mask(mask)
        low, high = display_range(reduced, signed)
        place.imshow(mask_overlay(picture, reduced, signed=signed))
        height, width = reduced.shape
        _mark(place, (f"{name}, {height}×{width}\n" if heading else "") + f"{low:.2f} to {high:.2f}")
