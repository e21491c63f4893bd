"""How alike a spot looks in all images of a class: what was added to a photograph varies less than what it shows."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .spots import LATTICE, Spot

LEAST = 1.0  # of 255: below this, spots are equally alike


def on_lattice(images: Tensor) -> Tensor:
    """(N, C, S, S) uint8 to the mean of each cell, (N, C, LATTICE, LATTICE) float."""
    return torch.cat([F.interpolate(part.float(), (LATTICE, LATTICE), mode="area") for part in images.split(256)])


def _deviation(values: Tensor) -> Tensor:
    """(n, ...) to (...): the median distance from the median."""
    return (values - values.median(dim=0).values).abs().median(dim=0).values


class Sameness:
    """Spread of each class's cells and colours. ``images`` (N, C, S, S) uint8, ``labels`` (N,)."""

    def __init__(self, images: Tensor, labels: Tensor, classes: list[int]) -> None:
        cells = on_lattice(images)
        means = cells.mean(dim=(2, 3))
        self.classes = classes
        self.cells = {k: _deviation(cells[labels == k]).mean(dim=0) for k in classes}  # (LATTICE, LATTICE)
        self.colours = {k: _deviation(means[labels == k]).mean() for k in classes}

    def spread(self, label: int, spot: Spot) -> float:
        """Levels of 255."""
        if spot.kind == "colours":
            return float(self.colours[label])
        return float(self.cells[label][spot.cells].mean())

    def of(self, label: int, spot: Spot) -> float:
        """The other classes' median spread in the spot over this class's: 5 if it varies a fifth as much."""
        others = torch.tensor([self.spread(k, spot) for k in self.classes if k != label])
        return float(others.median().clamp(min=LEAST)) / max(self.spread(label, spot), LEAST)
