"""Attention figures: contact sheets, one image in detail, and channels before and after the mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ..data.preprocess import Preprocess
from ..palette import BLUE, GRAY, ORANGE, UNSIGNED, new_figure, save_photographs, shortened
from .choices import meaning
from .geometry import on_original
from .overlay import as_picture, display_range, enlarged, heat, mask_overlay
from .readings import Look, last_of_each_stage, level_names

MAX_COLUMNS = 6  # maps on a sheet; deeper networks show the last module of each stage
TITLE_LABELS = 3  # of an image with several
TITLE_WIDTH = 28  # characters
PICTURES_PER_ROW = 5  # in the detailed figure, including the image itself
SCALES = {False: "dark = low, bright = high", True: "purple = negative, orange = positive"}


def _set_title(axes: Axes, title: str, colour: str = "black") -> None:
    axes.set_title(title, fontsize=8, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])


def _range_text(values: Tensor, signed: bool) -> str:
    low, high = display_range(values, signed)
    wide = max(abs(low), abs(high)) >= 0.1
    return f"{low:.2f} to {high:.2f}" if wide else f"{low:.2g} to {high:.2g}"


Title = tuple[str, str]
"""The text above an image, and its colour: orange where the prediction is wrong."""


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


@dataclass(frozen=True)
class Originals:
    """The images themselves, uint8 (H, W, 3) of any size, and how the network's input is made of them."""

    pictures: Sequence[np.ndarray]
    preprocess: Preprocess

    def overlay(self, index: int, values: Tensor, signed: bool) -> np.ndarray:
        picture = self.pictures[index]
        height, width = picture.shape[:2]
        return heat(picture, on_original(values, self.preprocess, width, height), signed=signed)


def draw_attention(
    images: Tensor,
    titles: Sequence[Title],
    maps: Mapping[str, Tensor],
    out: Path,
    *,
    reading: str | int = "mean",
    signed: bool = False,
    originals: Originals | None = None,
) -> None:
    """Draw a sheet, one row per image: the image with its title, then each module's map over it.

    Args:
        images: (N, C, H, W) uint8, as the network receives them.
        titles: N, from `prediction_title` or `labels_title`.
        maps: module name -> (N, h, w), low to high level (`read`); each is scaled to its own range, printed above.
        originals: drawn in place of ``images``.
    """
    pictures = as_picture(images)
    everything = len(maps)
    if everything > MAX_COLUMNS:
        maps = {name: maps[name] for name in last_of_each_stage(list(maps))}
    levels = level_names(list(maps))
    columns = 1 + len(maps)
    blocks = 2 if len(pictures) >= 6 and columns <= 5 else 1  # side by side, so the figure is not too tall
    rows = -(-len(pictures) // blocks)
    figure = new_figure(1.9 * columns * blocks, 2.05 * rows + 0.5)
    parts = np.atleast_1d(figure.subfigures(1, blocks, wspace=0.03))  # type: ignore[arg-type]
    for part, first in zip(parts, range(0, len(pictures), rows), strict=False):
        grid = part.subplots(rows, columns, squeeze=False)
        for row, axes in enumerate(grid):
            index = first + row
            if index >= len(pictures):
                for empty in axes:
                    empty.set_axis_off()
                continue
            picture = enlarged(pictures[index])
            axes[0].imshow(picture if originals is None else originals.pictures[index])
            _set_title(axes[0], *titles[index])
            for place, (name, of_module) in zip(axes[1:], maps.items(), strict=True):
                values = of_module[index].cpu()
                if originals is None:
                    place.imshow(mask_overlay(picture, values, signed=signed))
                else:
                    place.imshow(originals.overlay(index, values, signed))
                heading = f"{levels[name]}\n{name}, {values.shape[0]}×{values.shape[1]}\n" if row == 0 else ""
                _set_title(place, heading + _range_text(values, signed))
    which = "" if len(maps) == everything else f"; last module of each stage, out of {everything}"
    title = f"Attention masks: {meaning(reading)} ({SCALES[signed]}; each map on its own range{which})"
    figure.suptitle(title, fontsize=9)
    save_photographs(figure, out)


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


def draw_image(drawn: Drawn, out: Path, *, reading: str | int = "mean", signed: bool = False) -> None:
    """Draw one image in detail: the original with its prediction, then each module's map over it."""
    height, width = drawn.picture.shape[:2]
    pictures = 1 + len(drawn.maps[0])
    across = min(pictures, PICTURES_PER_ROW)
    down = -(-pictures // across)  # of each label
    aspect = min(max(height / width, 0.4), 2.5)
    figure = new_figure(2.6 * across, (2.5 * aspect + 0.45) * down * len(drawn.maps) + 0.3)
    grid = figure.subplots(down * len(drawn.maps), across, squeeze=False).reshape(len(drawn.maps), -1)
    for places, title, maps in zip(grid, drawn.titles, drawn.maps, strict=True):
        places[0].imshow(drawn.picture)
        _set_title(places[0], title)
        levels = level_names(list(maps))
        for axes, (name, values) in zip(places[1:], maps.items(), strict=False):
            axes.imshow(heat(drawn.picture, values, signed=signed))
            size = f"{drawn.sizes[name][0]}×{drawn.sizes[name][1]}"
            _set_title(axes, f"{levels[name]} ({name}, {size})\n{_range_text(values, signed)}")
        for empty in places[pictures:]:
            empty.set_axis_off()
    figure.suptitle(f"{shortened(drawn.name, 60)}: masks, {meaning(reading)} ({SCALES[signed]})", fontsize=9)
    figure.savefig(out)


def draw_channels(
    picture: np.ndarray, found: Look, channels: Mapping[str, Sequence[int]], out: Path, *, signed: bool = False
) -> None:
    """Draw the paper's Figure 1: a feature map before the mask, the mask, and the feature map after it.

    Args:
        picture: the network's input, uint8 (H, W, 3).
        found: the `Look` at this image, with ``features``.
        channels: module name -> the channels to draw, one row per channel.
    """
    rows = [(name, channel) for name, chosen in channels.items() for channel in chosen]
    figure = new_figure(9.2, 2.35 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, channel) in zip(grid, rows, strict=True):
        axes[0].imshow(enlarged(picture))
        _set_title(axes[0], f"{name}, channel {channel}")
        before, mask, after = (part[name][0, channel].cpu() for part in (found.before, found.masks, found.after))
        limit = max(float(before.abs().max()), float(after.abs().max()), 1e-6)  # one scale for both feature maps
        for place, values, title in ((axes[1], before, "before: T"), (axes[3], after, "after: H")):
            place.imshow(values.numpy(), cmap="PuOr_r", vmin=-limit, vmax=limit)
            _set_title(place, f"{title}   ±{limit:.2g}")
        low, high = display_range(mask, signed)
        axes[2].imshow(mask.numpy(), cmap="PuOr_r" if signed else UNSIGNED, vmin=low, vmax=high)
        _set_title(axes[2], f"mask: M   {_range_text(mask, signed)}")
    figure.suptitle(
        "Feature map before the mask, the mask, feature map after it (purple = negative, orange = positive)", fontsize=9
    )
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
