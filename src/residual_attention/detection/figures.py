"""Boxes on images, the backbone's attention beneath them, and the curves of a detection run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..attention.geometry import upsample
from ..attention.overlay import heat
from ..palette import BLUE, GRAY, GREEN, ORANGE, by_epoch, new_figure, save_photographs, shortened
from ..training.page import read_metrics
from .measures import Curve, Detections

COLOURS = (ORANGE, BLUE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")  # Okabe and Ito


def colour_of(label: int) -> str:
    return COLOURS[label % len(COLOURS)]


def draw_boxes(
    image: Image.Image, boxes: Sequence[tuple[int, str, tuple[float, float, float, float]]], line_px: int | None = None
) -> Image.Image:
    """A copy with (class index, text, box) drawn on it; the text is in the box's upper left corner."""
    picture = image.convert("RGB")
    line = line_px or max(1, round(min(picture.size) / 200))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(10, round(min(picture.size) / 36)))
    for label, text, (x0, y0, x1, y1) in boxes:
        colour = colour_of(label)
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
        if text:
            place = draw.textbbox((x0 + line, y0 + line), text, font=font)
            draw.rectangle(place, fill=colour)
            draw.text((x0 + line, y0 + line), text, fill="white", font=font)
    return picture


def reduced(picture: Image.Image, longest: int = 1000) -> tuple[Image.Image, float]:
    """The image, scaled down to its size on the page, and the scale factor for its boxes."""
    factor = min(1.0, longest / max(picture.size))
    if factor == 1.0:
        return picture, factor
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BILINEAR), factor


def draw_sheet(
    pictures: Sequence[Image.Image],
    truths: Sequence[tuple[Tensor, Tensor, Tensor]],
    found: Sequence[Detections],
    classes: Sequence[str],
    threshold: Sequence[float],
    out: Path,
    masks: Sequence[dict[str, Tensor]] = (),
    *,
    signed: bool = False,
) -> None:
    """True boxes (dashed), predicted boxes at or above the class's ``threshold``, then each mask; one row per image.

    Without masks, two images share a row.

    Args:
        masks: for each image, module name -> (h, w) over the image, with the predicted boxes on top.
        signed: whether they lie in [-1, 1] about 0.
    """
    each = 2 + (len(masks[0]) if masks else 0)
    beside = 1 if masks else min(2, len(pictures))  # images per row of the sheet
    rows = -(-len(pictures) // beside)
    height = 2.6 * float(np.mean([p.height / p.width for p in pictures]))
    figure = new_figure(2.6 * each * beside, height * rows + 0.4)
    grid = figure.subplots(rows, each * beside, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (picture, truth, detections) in enumerate(zip(pictures, truths, found, strict=True)):
        row, first = i // beside, each * (i % beside)
        small, factor = reduced(picture)
        image = np.asarray(small.convert("RGB"))
        shown = {"true boxes": image, "predicted boxes": image}
        for name, mask in (masks[i] if masks else {}).items():
            shown[f"mask {name}"] = heat(image, upsample(mask, *image.shape[:2]), signed=signed)
        keep = detections.scores >= torch.tensor([threshold[label] for label in detections.labels.tolist()])
        for column, (title, values) in enumerate(shown.items()):
            axes = grid[row][first + column]
            axes.imshow(values)
            if row == 0:
                axes.set_title(title, fontsize=9)
            if column == 0:
                _add_boxes(axes, truth[0] * factor, truth[1], "--")
            else:
                boxes = detections.boxes[keep] * factor
                _add_boxes(axes, boxes, detections.labels[keep], "-", 0.9 if column > 1 else 1.4)
    _add_legend(figure, classes)
    save_photographs(figure, out)


def _add_legend(figure: Figure, classes: Sequence[str]) -> None:
    handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour_of(i)) for i in range(len(classes))]
    names = [shortened(name) for name in classes]
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), frameon=False, fontsize=9)


def _add_boxes(axes, boxes: Tensor, labels: Tensor, style: str, width: float = 1.4) -> None:
    for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        axes.add_patch(
            Rectangle(
                (x0 - 0.5, y0 - 0.5),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=colour_of(label),
                linestyle=style,
                lw=width,
            )
        )


def draw_precision_recall(curves: dict[str, Curve], out: Path) -> None:
    """Precision against recall at IoU 0.5, one line per class, with its average precision (area) in the legend."""
    figure = new_figure(6.4, 4.8)
    axes = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        if curve.boxes:
            label = f"{shortened(name)}: AP {100 * curve.average_precision:.1f} %, {curve.boxes} boxes"
            axes.step(100 * curve.recall, 100 * curve.precision, where="post", color=colour_of(i), label=label)
    axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 102), ylim=(0, 104))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(out)


def draw_detection_curves(metrics_csv: Path, out: Path) -> None:
    """The loss and its parts, average precision and learning rate by epoch, from ``metrics.csv``."""
    rows = read_metrics(metrics_csv)

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) if row.get(name) else np.nan for row in rows])

    epochs = column("epoch")
    marker = "o" if len(rows) < 3 else None
    figure = new_figure(12, 3.6)
    loss, precision, rate = figure.subplots(1, 3)
    parts = [name for name in rows[0] if name.startswith("train_loss")]
    for name, colour in zip(parts, (GRAY, *COLOURS), strict=False):
        label = name.removeprefix("train_loss").strip("_").replace("_", " ") or "sum"
        loss.plot(epochs, column(name), color=colour, label=label, marker=marker)
    by_epoch(loss)
    loss.set(ylabel="training loss", yscale="log")
    loss.legend(frameon=False, fontsize=8)
    for name, label, colour in (("val_ap50_pct", "AP at IoU 0.5", BLUE), ("val_map_pct", "mAP (0.5 to 0.95)", ORANGE)):
        values = column(name)
        if not np.isnan(values).all():
            precision.plot(epochs, values, color=colour, label=label, marker=marker)
    by_epoch(precision)
    precision.set(ylabel="validation (%)", ylim=(0, 100))
    if precision.get_lines():
        precision.legend(frameon=False, fontsize=8)
    rate.plot(epochs, column("lr"), color=GRAY, marker=marker)
    by_epoch(rate)
    rate.set(ylabel="learning rate at end of epoch", ylim=(0, None))
    for axes in (loss, precision, rate):
        axes.grid(alpha=0.25)
    figure.savefig(out)
