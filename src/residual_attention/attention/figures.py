"""Attention figures: contact sheets, one image in detail, and channels before and after the mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ..data.preprocess import Preprocess
from ..palette import BLUE, GRAY, ORANGE, new_figure, save_photographs, shortened, shortened_file
from .choices import meaning
from .geometry import on_original
from .originals import Originals
from .overlay import display_range, heat
from .readings import Look, level_names
from .rows import SCALES, Row, Sheet, Title, range_text, sheet_of

TITLE_LABELS = 3  # of an image with several
TITLE_WIDTH = 28  # characters
PICTURES_PER_ROW = 5  # in the detailed figure, including the image itself


def _set_title(axes: Axes, title: str, colour: str = "black") -> None:
    axes.set_title(title, fontsize=8, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])


def prediction_title(truth: str | None, predicted: str, confidence: float) -> Title:
    """The title of an image, black if the prediction is right or the truth unknown."""
    title = f"{shortened(predicted)} {100 * confidence:.0f} %"
    wrong = truth is not None and truth != predicted
    return (f"{title}\n(true: {shortened(truth or '')})", ORANGE) if wrong else (title, "black")


def labels_title(truth: Sequence[str] | None, given: Sequence[tuple[str, float]]) -> Title:
    """The title of an image of a multi-label classifier: the labels it gives, and the true ones where they differ."""
    shown = [f"{shortened(name)} {100 * share:.0f} %" for name, share in given[:TITLE_LABELS]]
    more = [f"and {len(given) - TITLE_LABELS} more"] if len(given) > TITLE_LABELS else []
    title = "\n".join(shown + more) or "no label"
    if truth is None or set(truth) == {name for name, _ in given}:
        return title, "black"
    return f"{title}\n(true: {shortened(', '.join(truth) or 'none', TITLE_WIDTH)})", ORANGE


def label_title(name: str, share: float, given: bool, true: bool) -> Title:
    """The title of an image that is drawn for one label: its probability, and what is wrong if something is."""
    title = f"{shortened(name)} {100 * share:.0f} %"
    if given == true:
        return title, "black"
    return f"{title}\n({'not in the labels' if given else 'missed'})", ORANGE


def draw_attention(
    images: Tensor,
    titles: Sequence[Title],
    maps: Mapping[str, Tensor],
    out: Path,
    *,
    reading: str | int = "mean",
    signed: bool = False,
    originals: Originals | None = None,
) -> Sheet:
    """Draw a sheet, one row per image: the image with its title, then each module's map over it. Returns the sheet.

    The arguments are those of `rows.sheet_of`; each map's range is printed above it.
    """
    sheet = sheet_of(images, titles, maps, reading=reading, signed=signed, originals=originals)
    draw_sheet(sheet, out)
    return sheet


def draw_sheet(sheet: Sheet, out: Path) -> None:
    """Draw the rows of a sheet as one figure."""
    columns = 1 + len(sheet.levels)
    blocks = 2 if len(sheet.rows) >= 6 and columns <= 5 else 1  # side by side, so the figure is not too tall
    count = -(-len(sheet.rows) // blocks)
    figure = new_figure(1.9 * columns * blocks, 2.05 * count + 0.5)
    parts = np.atleast_1d(figure.subfigures(1, blocks, wspace=0.03))  # type: ignore[arg-type]
    for part, first in zip(parts, range(0, len(sheet.rows), count), strict=False):
        grid = part.subplots(count, columns, squeeze=False)
        for number, axes in enumerate(grid):
            if first + number >= len(sheet.rows):
                for empty in axes:
                    empty.set_axis_off()
                continue
            _draw_row(axes, sheet.rows[first + number], sheet if number == 0 else None)
    figure.suptitle(sheet.heading, fontsize=9)
    save_photographs(figure, out)


def _draw_row(axes: Sequence[Axes], row: Row, headed_by: Sheet | None) -> None:
    """One row of a sheet; the first one is ``headed_by`` the sheet's levels and modules."""
    axes[0].imshow(row.picture)
    text, colour = row.title
    _set_title(axes[0], f"{shortened_file(row.file)}\n{text}" if row.file else text, colour)
    for number, (place, overlay, of_map) in enumerate(zip(axes[1:], row.overlays, row.ranges, strict=True)):
        place.imshow(overlay)
        heading = ""
        if headed_by is not None:
            heading = "".join(f"{names[number]}\n" for names in (headed_by.levels, headed_by.modules) if names)
        _set_title(place, heading + of_map)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One original image, uint8 (H, W, 3), and maps of the same size by module, under the image's ``title``.

    Several ``maps``, one row each, are of several labels, each under its own title.
    """

    name: str
    picture: np.ndarray
    titles: Sequence[str]
    maps: Sequence[Mapping[str, Tensor]]
    sizes: Mapping[str, tuple[int, int]]


def _bounded(aspect: float) -> float:
    """A height per width that leaves a figure's other pictures their place."""
    return min(max(aspect, 0.4), 2.5)


def draw_image(drawn: Drawn, out: Path, *, reading: str | int = "mean", signed: bool = False) -> None:
    """Draw one image in detail: the original with its prediction, then each module's map over it."""
    height, width = drawn.picture.shape[:2]
    pictures = 1 + len(drawn.maps[0])
    across = min(pictures, PICTURES_PER_ROW)
    down = -(-pictures // across)  # of each label
    figure = new_figure(2.6 * across, (2.5 * _bounded(height / width) + 0.45) * down * len(drawn.maps) + 0.3)
    grid = figure.subplots(down * len(drawn.maps), across, squeeze=False).reshape(len(drawn.maps), -1)
    for places, title, maps in zip(grid, drawn.titles, drawn.maps, strict=True):
        places[0].imshow(drawn.picture)
        _set_title(places[0], title)
        levels = level_names(list(maps))
        for axes, (name, values) in zip(places[1:], maps.items(), strict=False):
            axes.imshow(heat(drawn.picture, values, signed=signed))
            size = f"{drawn.sizes[name][0]}×{drawn.sizes[name][1]}"
            _set_title(axes, f"{levels[name]} ({name}, {size})\n{range_text(values, signed)}")
        for empty in places[pictures:]:
            empty.set_axis_off()
    figure.suptitle(f"{shortened(drawn.name, 60)}: masks, {meaning(reading)} ({SCALES[signed]})", fontsize=9)
    figure.savefig(out)


def draw_channels(
    picture: np.ndarray,
    found: Look,
    channels: Mapping[str, Sequence[int]],
    out: Path,
    *,
    preprocess: Preprocess,
    signed: bool = False,
) -> None:
    """Draw the paper's Figure 1: a feature map before the mask, the mask, and the feature map after it.

    Args:
        picture: the original at drawing size, uint8 (H, W, 3); the maps are drawn over it.
        found: the `Look` at this image, with ``features``.
        channels: module name -> the channels to draw, one row per channel.
        preprocess: how the network's input is made of the picture.
    """
    rows = [(name, channel) for name, chosen in channels.items() for channel in chosen]
    height, width = picture.shape[:2]
    figure = new_figure(9.2, (2.2 * _bounded(height / width) + 0.25) * len(rows) + 0.5)
    grid = figure.subplots(len(rows), 4, squeeze=False)
    levels = level_names(list(found.masks))
    for axes, (name, channel) in zip(grid, rows, strict=True):
        before, mask, after = (part[name][0, channel].cpu() for part in (found.before, found.masks, found.after))
        limit = max(float(before.abs().max()), float(after.abs().max()), 1e-6)  # one scale for both feature maps
        both, title = (-limit, limit), f"{levels[name]} ({name}, {mask.shape[0]}×{mask.shape[1]})\nchannel {channel}"
        axes[0].imshow(picture)
        _set_title(axes[0], title)
        for place, values, span, is_signed, text in (
            (axes[1], before, both, True, f"before: T\n±{limit:.2g}"),
            (axes[2], mask, display_range(mask, signed), signed, f"mask: M\n{range_text(mask, signed)}"),
            (axes[3], after, both, True, f"after: H\n±{limit:.2g}"),
        ):
            over = on_original(values, preprocess, width, height)
            place.imshow(heat(picture, over, signed=is_signed, span=span))
            _set_title(place, text)
    mask_scale = "" if signed else f"; masks: {SCALES[False]}"
    figure.suptitle(f"Feature map before the mask, mask, feature map after it ({SCALES[True]}{mask_scale})", fontsize=9)
    figure.savefig(out)


def draw_responses(responses: Mapping[str, Mapping[str, float]], out: Path) -> None:
    """Plot the mean absolute response of each stage's output, one line per network (paper, section 4.1)."""
    figure = new_figure(6.4, 4)
    axes = figure.subplots()
    for colour, marker, (label, values) in zip((BLUE, ORANGE, GRAY), "osD", responses.items(), strict=False):
        axes.plot(list(values), list(values.values()), color=colour, marker=marker, label=label)
    axes.set(xlabel="output of", ylabel="mean absolute response", ylim=(0, None))
    axes.tick_params(axis="x", labelrotation=45 if max(len(v) for v in responses.values()) > 6 else 0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(out)
