"""Where in an image the evidence for its class may lie: boxes or a mask, drawn and augmented with the image itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .images import read_image
from .preprocess import Preprocess

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the original


@dataclass(frozen=True)
class Region:
    """Boxes, or a mask file whose pixels above 0 are inside. ``size``: width and height of both."""

    size: tuple[int, int]
    boxes: tuple[Box, ...] = ()
    mask: Path | None = None

    def drawn(self) -> Image.Image:
        """In mode L, 255 inside and 0 outside. Raises ImageError for an unreadable mask."""
        width, height = self.size
        if self.mask is not None:
            inside = np.asarray(read_image(self.mask, 1)) > 0
        else:
            inside = np.zeros((height, width), dtype=bool)
            for x0, y0, x1, y1 in self.boxes:
                rows = slice(max(0, math.floor(y0)), math.ceil(min(y1, height)))
                inside[rows, max(0, math.floor(x0)) : math.ceil(min(x1, width))] = True
        return Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0)))


@dataclass(frozen=True)
class Regions:
    """The region of each sample of a split; None where none is known."""

    of_sample: tuple[Region | None, ...]

    def __len__(self) -> int:
        return len(self.of_sample)

    @property
    def known(self) -> int:
        return sum(region is not None for region in self.of_sample)

    def subset(self, index: Sequence[int]) -> "Regions":
        return Regions(tuple(self.of_sample[i] for i in index))

    def drawn(self, index: int, size: tuple[int, int]) -> Image.Image:
        """A sample's region at the image's ``size``; empty if it has none."""
        region = self.of_sample[index]
        return Image.new("L", size) if region is None else region.drawn()

    def squares(self, preprocess: Preprocess) -> Tensor:
        """(N, 1, S, S) uint8, each cropped or padded like its image."""
        gray, side = region_preprocess(preprocess), preprocess.image_size
        found = torch.zeros(len(self), 1, side, side, dtype=torch.uint8)
        for square, region in zip(found, self.of_sample, strict=True):
            if region is not None:
                square.copy_(gray.to_uint8(region.drawn()))
        return found


def region_preprocess(preprocess: Preprocess) -> Preprocess:
    """The same geometry for one channel; padding is outside the region."""
    return replace(preprocess, mean=(0.0,), std=(1.0,))
