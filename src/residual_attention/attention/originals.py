"""The images themselves, as files have them, so that maps are drawn on sharp pixels and not on the network's input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.images import ImageError
from ..data.preprocess import Preprocess
from ..data.samples import Samples, origin_of
from .geometry import on_original
from .overlay import heat

LONGEST_SIDE = 800  # px of one drawn image; larger originals are downscaled, saved arrays are not
SMALLEST_SIDE = 224  # px; smaller originals are enlarged, so that the map is drawn smoothly
SHOWN_PX = 240  # long side of an image among others


def displayed(image: Image.Image, smallest: int = SMALLEST_SIDE) -> Image.Image:
    """The original at drawing size: downscaled if large, enlarged by an integer to ``smallest`` px if small."""
    longest = max(image.size)
    if longest > LONGEST_SIDE:
        factor = LONGEST_SIDE / longest
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        return image.resize(size, Image.Resampling.LANCZOS)
    times = -(-smallest // longest)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def thumbnail(image: Image.Image) -> np.ndarray:
    """RGB (H, W, 3), sharp enough for a place among others."""
    shown = displayed(image, SHOWN_PX).convert("RGB")
    shown.thumbnail((SHOWN_PX, SHOWN_PX))
    return np.asarray(shown)


@dataclass(frozen=True)
class Originals:
    """Images of any size, uint8 (H, W, 3), how the network's input is made of them, and their files' names."""

    pictures: Sequence[np.ndarray]
    preprocess: Preprocess
    files: Sequence[str] = ()

    def overlay(self, index: int, values: Tensor, signed: bool) -> np.ndarray:
        picture = self.pictures[index]
        height, width = picture.shape[:2]
        return heat(picture, on_original(values, self.preprocess, width, height), signed=signed)


def read_originals(samples: Samples, preprocess: Preprocess) -> Originals | None:
    """The samples' files as `thumbnail`s; None if there are no files, or if one cannot be read any more."""
    if (stored := origin_of(samples)) is None:
        return None
    try:
        pictures = [thumbnail(stored.read(i, preprocess.in_chans)) for i in range(len(stored))]
    except ImageError:
        return None
    return Originals(pictures, preprocess, [stored.name(i) for i in range(len(stored))])
