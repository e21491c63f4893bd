"""A sheet of images in rows: each image with its title and its file's name, then each module's map over it.

A sheet is drawn as one figure (`figures.draw_attention`), and written as JSON for a page that lays it out for its
screen.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..atomic import remove_leftovers, write_atomically
from ..documents import blaming, parse_json
from .choices import meaning
from .originals import Originals
from .overlay import as_picture, display_range, enlarged, mask_overlay
from .readings import last_of_each_stage, level_names

MAX_COLUMNS = 6  # maps on a sheet; deeper networks show the last module of each stage
SCALES = {False: "dark = low, bright = high", True: "purple = negative, orange = positive"}
GAP_PX, QUALITY = 4, 85  # of the pictures on a page

Title = tuple[str, str]
"""The text above an image, and its colour: orange where the prediction is wrong."""


def range_text(values: Tensor, signed: bool) -> str:
    low, high = display_range(values, signed)
    wide = max(abs(low), abs(high)) >= 0.1
    first = "0" if low == 0 else f"{low:.2f}" if wide else f"{low:.2g}"
    return f"{first} to {high:.2f}" if wide else f"{first} to {high:.2g}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """``picture`` and ``overlays``: uint8 (H, W, 3), all of one size; ``ranges``: of each overlay's colours.

    ``file`` is empty for images that were never files.
    """

    picture: np.ndarray
    title: Title
    file: str
    overlays: Sequence[np.ndarray]
    ranges: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """``levels`` and ``modules``: of each overlay, what people call it, and its module's name and size.

    ``modules`` is empty if the overlays are not of modules.
    """

    heading: str
    levels: Sequence[str]
    modules: Sequence[str]
    rows: Sequence[Row]


def sheet_of(
    images: Tensor,
    titles: Sequence[Title],
    maps: Mapping[str, Tensor],
    *,
    reading: str | int = "mean",
    signed: bool = False,
    originals: Originals | None = None,
) -> Sheet:
    """Lay out a sheet.

    Args:
        images: (N, C, H, W) uint8, as the network receives them.
        titles: N, from `figures.prediction_title` or `figures.labels_title`.
        maps: module name -> (N, h, w), low to high level (`read`); each has its own `display_range`.
        originals: shown in place of ``images``.
    """
    everything = len(maps)
    if everything > MAX_COLUMNS:
        maps = {name: maps[name] for name in last_of_each_stage(list(maps))}
    levels = level_names(list(maps))
    rows = []
    for index, (picture, title) in enumerate(zip(as_picture(images), titles, strict=True)):
        values = [of_module[index].cpu() for of_module in maps.values()]
        if originals is None:
            shown = enlarged(picture)
            overlays = [mask_overlay(shown, each, signed=signed) for each in values]
        else:
            shown = originals.pictures[index]
            overlays = [originals.overlay(index, each, signed) for each in values]
        file = originals.files[index] if originals is not None and originals.files else ""
        ranges = [range_text(each, signed) for each in values]
        rows.append(Row(picture=shown, title=title, file=file, overlays=overlays, ranges=ranges))
    own = "its own range" if signed else "its own range, unless it is nearly flat"
    which = "" if len(maps) == everything else f"; last module of each stage, out of {everything}"
    return Sheet(
        heading=f"Attention masks: {meaning(reading)} ({SCALES[signed]}; each map scaled to {own}{which})",
        levels=[levels[name] for name in maps],
        modules=[f"{name}, {of_module.shape[1]}×{of_module.shape[2]}" for name, of_module in maps.items()],
        rows=rows,
    )


@dataclass(frozen=True, kw_only=True)
class PageRow:
    """A `Row` for a page: ``strip``, its pictures side by side as a JPEG in base64."""

    title: str
    file: str
    wrong: bool
    ranges: list[str]
    strip: str


@dataclass(frozen=True, kw_only=True)
class PageSheet:
    """A `Sheet` for a page."""

    heading: str
    levels: list[str]
    modules: list[str]
    rows: list[PageRow]


def _strip(row: Row) -> str:
    height, width = row.picture.shape[:2]
    tiles = [row.picture, *row.overlays]
    canvas = Image.new("RGB", (len(tiles) * (width + GAP_PX) - GAP_PX, height), "white")
    for place, tile in enumerate(tiles):
        canvas.paste(Image.fromarray(tile), (place * (width + GAP_PX), 0))
    content = io.BytesIO()
    canvas.save(content, "JPEG", quality=QUALITY)
    return base64.b64encode(content.getvalue()).decode()


def write_sheet(sheet: Sheet, out: Path) -> None:
    """Write a sheet as JSON, for `read_sheet`."""
    rows = [
        PageRow(
            title=row.title[0],
            file=row.file,
            wrong=row.title[1] != "black",
            ranges=list(row.ranges),
            strip=_strip(row),
        )
        for row in sheet.rows
    ]
    page = PageSheet(heading=sheet.heading, levels=list(sheet.levels), modules=list(sheet.modules), rows=rows)
    out.parent.mkdir(exist_ok=True)
    remove_leftovers(out)
    write_atomically(out, json.dumps(asdict(page)).encode())


def read_sheet(path: Path) -> PageSheet | None:
    """A sheet that `write_sheet` wrote; None if there is none. Raises UserError if it is damaged."""
    if not path.is_file():
        return None
    with blaming(f"{path} is damaged", "delete it, or draw it again with `ran report RUN --redraw`"):
        found = parse_json(path.read_bytes(), path)
        rows = [PageRow(**row) for row in found.pop("rows")]
        for row in rows:
            base64.b64decode(row.strip, validate=True)
        return PageSheet(rows=rows, **found)
