"""Images with boxes, in any input format, and the sanity pass over every box.

Boxes are (x0, y0, x1, y1) in continuous pixels of the image as displayed (EXIF orientation applied). Pixel i covers
[i, i + 1], so a box over a whole image of 640x480 px is (0, 0, 640, 480).
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..data.images import ImageError, read_image, shown_size

ROUNDING_PX = 1.0  # boxes that exceed the image by at most this are clipped silently
DECODED = 5_000  # up to this many images per split are decoded before training; above it, only headers are read


@dataclass(frozen=True)
class Box:
    """``ignored``: excluded from training and from the measures (VOC's *difficult*, COCO's *iscrowd*)."""

    name: str
    x0: float
    y0: float
    x1: float
    y1: float
    ignored: bool = False


def number_in(text: str) -> float:
    """A coordinate as written; NaN, which the sanity pass finds, if it is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


@dataclass(frozen=True)
class Picture:
    """An image file of ``width`` x ``height`` px and its boxes. ``size`` 0 x 0: not yet known."""

    path: Path
    boxes: tuple[Box, ...]
    width: int = 0
    height: int = 0


@dataclass
class Problems:
    """Problems of a data set, one line each.

    Attributes:
        found: where, and what.
        lines: the same with how it is handled.
        kinds: how many of each.
    """

    found: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, where: Path | str, what: str, handled: str) -> None:
        self.kinds[kind] += 1
        self.found.append(f"{where}: {what}")
        self.lines.append(f"{self.found[-1]}; {handled}")

    def summary(self) -> str:
        """``3 problems in the annotations (2 empty box, 1 missing image)``."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        number = len(self.found)
        return f"{number} problem{'' if number == 1 else 's'} in the annotations ({kinds})"


@dataclass(frozen=True)
class Pictures:
    """A split: pictures whose boxes all have a class in ``classes``, lie inside the image and have positive size."""

    pictures: tuple[Picture, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def subset(self, indices: Iterable[int]) -> "Pictures":
        return Pictures(tuple(self.pictures[i] for i in indices), self.classes)

    def read(self, index: int) -> Image.Image:
        """The image in mode RGB. Raises ImageError when it cannot be read."""
        return read_image(self.pictures[index].path, 3)

    def truth(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, 4) float32, class indices (N,) int64, ignored (N,) bool of one picture."""
        boxes = self.pictures[index].boxes
        corners = torch.tensor([[b.x0, b.y0, b.x1, b.y1] for b in boxes], dtype=torch.float32).reshape(-1, 4)
        number = {name: i for i, name in enumerate(self.classes)}
        labels = torch.tensor([number[b.name] for b in boxes], dtype=torch.int64)
        return corners, labels, torch.tensor([b.ignored for b in boxes], dtype=torch.bool)

    def counts(self) -> Counter[str]:
        """Number of boxes per class, excluding ignored ones."""
        return Counter(b.name for picture in self.pictures for b in picture.boxes if not b.ignored)


def class_names(pictures: Iterable[Picture]) -> tuple[str, ...]:
    """Every class with at least one box, in alphabetical order."""
    return tuple(sorted({box.name for picture in pictures for box in picture.boxes}))


def _checked_box(box: Box, picture: Picture, classes: Sequence[str], problems: Problems) -> Box | None:
    """The box clipped to its image, or None with a line in ``problems``."""
    where, shown = picture.path.name, f"{box.name!r} ({box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g})"
    if not all(map(math.isfinite, (box.x0, box.y0, box.x1, box.y1))):
        problems.add("non-numeric box", where, f"the box {shown} has non-numeric coordinates", "skipped")
    elif box.name not in classes:
        problems.add("unknown class", where, f"the class {box.name!r} is not a training class", "box skipped")
    elif box.x1 < box.x0 or box.y1 < box.y0:
        problems.add("inverted box", where, f"the box {shown} is inverted", "skipped")
    elif box.x1 == box.x0 or box.y1 == box.y0:
        problems.add("empty box", where, f"the box {shown} is empty", "skipped")
    else:
        return _clipped_box(box, picture, shown, problems)
    return None


def _clipped_box(box: Box, picture: Picture, shown: str, problems: Problems) -> Box | None:
    width, height = picture.width, picture.height
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, float(width)), min(box.y1, float(height))
    if x1 <= x0 or y1 <= y0:
        text = f"the box {shown} lies outside the image ({width}x{height} px)"
        problems.add("box outside the image", picture.path.name, text, "skipped")
        return None
    if max(x0 - box.x0, y0 - box.y0, box.x1 - x1, box.y1 - y1) > ROUNDING_PX:
        text = f"the box {shown} extends beyond the image ({width}x{height} px)"
        problems.add("box across the border", picture.path.name, text, "clipped")
    return Box(box.name, x0, y0, x1, y1, box.ignored)


def _sized(picture: Picture, decode: bool, problems: Problems) -> Picture | None:
    """The picture with the size of its file, or None with a line in ``problems``."""
    try:
        if decode:
            width, height = read_image(picture.path, 3).size
        else:
            width, height = shown_size(picture.path)
    except ImageError as error:
        kind = "missing image" if not os.path.exists(picture.path) else "unreadable image"
        problems.add(kind, picture.path, f"{str(error).removeprefix(f'{picture.path}: ')}", "skipped")
        return None
    if picture.width and (picture.width, picture.height) != (width, height):
        turned = " (rotated by its EXIF orientation)" if (picture.height, picture.width) == (width, height) else ""
        said = f"{picture.width}x{picture.height}"
        text = f"{width}x{height} px{turned}, but its annotation says {said}"
        problems.add("wrong image size", picture.path.name, text, "image skipped")
        return None
    return Picture(picture.path, picture.boxes, width, height)


def checked(pictures: Sequence[Picture], classes: Sequence[str], problems: Problems) -> Pictures:
    """The sanity pass: every file exists and is readable, every box lies in its image and has a known class.

    Whatever cannot be fixed is skipped; each finding is a line in ``problems``. Images without boxes stay: they teach
    the background.
    """
    decode = len(pictures) <= DECODED

    def good() -> Iterator[Picture]:
        for picture in pictures:
            sized = _sized(picture, decode, problems)
            if sized is None:
                continue
            found = (_checked_box(box, sized, classes, problems) for box in sized.boxes)
            yield Picture(sized.path, tuple(box for box in found if box is not None), sized.width, sized.height)

    return Pictures(tuple(good()), tuple(classes))
