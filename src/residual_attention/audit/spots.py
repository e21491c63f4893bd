"""Spots of the square input that may hold a shortcut, and the spots they are compared with.

All lie on a lattice of `LATTICE` x `LATTICE` cells: patches of a quarter of the side, strips along each edge, a thin
frame. *Colours* is no place: each channel's mean and standard deviation over the whole image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .findings import Place

LATTICE = 16  # cells a side
PATCH, STEP = 4, 2  # cells: side of a patch, and from one to the next
STRIP = 3  # cells: depth
FRAME = 1  # cells: depth
SHARED = 0.4  # of the smaller spot: from here on two are one; a frame and a strip share 0.42


@dataclass(frozen=True)
class Spot:
    """Cells from (top, left) to (bottom, right), exclusive; of a *frame*, its outer edge, ``depth`` cells deep."""

    kind: str
    top: int = 0
    left: int = 0
    bottom: int = LATTICE
    right: int = LATTICE
    depth: int = 0

    @property
    def cells(self) -> Tensor:
        """(LATTICE, LATTICE) bool."""
        inside = torch.zeros(LATTICE, LATTICE, dtype=torch.bool)
        inside[self.top : self.bottom, self.left : self.right] = True
        if self.kind == "frame":
            hole = self.depth
            inside[self.top + hole : self.bottom - hole, self.left + hole : self.right - hole] = False
        return inside

    def pixels(self, side: int) -> Tensor:
        """(side, side) bool: the pixels whose centre lies in the spot."""
        cell = ((torch.arange(side) + 0.5) * LATTICE / side).long()
        return self.cells[cell][:, cell]

    def overlap(self, other: "Spot") -> float:
        """The share of the smaller spot's cells that the other one holds too; 0 between colours and a place."""
        if "colours" in (self.kind, other.kind):
            return float(self.kind == other.kind)
        mine, theirs = self.cells, other.cells
        return float((mine & theirs).sum() / min(mine.sum(), theirs.sum()))

    @property
    def name(self) -> str:
        if self.kind == "colours":
            return "colours of the whole image"
        if self.kind == "frame":
            return "frame" if not self.top else "ring inside"
        if self.kind == "strip":
            return (
                f"{_edge(self.top, self.bottom, 'top', 'bottom')} strip"
                if not self.left and self.right == LATTICE
                else f"{_edge(self.left, self.right, 'left', 'right')} strip"
            )
        row, column = _edge(self.top, self.bottom, "top", "bottom"), _edge(self.left, self.right, "left", "right")
        middle = (row == "middle") + (column == "middle")
        return "centre" if middle == 2 else f"{row} {column}" + (" corner" if self._in_corner else "")

    @property
    def _in_corner(self) -> bool:
        return self.top in (0, LATTICE - PATCH) and self.left in (0, LATTICE - PATCH)

    @property
    def area(self) -> float:
        """Share of the input."""
        return float(self.cells.float().mean())

    @property
    def place(self) -> Place:
        left, top, right, bottom = (edge / LATTICE for edge in (self.left, self.top, self.right, self.bottom))
        return Place(kind=self.kind, name=self.name, box=(left, top, right, bottom), area_pct=100 * self.area)


def _edge(low: int, high: int, first: str, last: str) -> str:
    middle = (low + high) / 2 / LATTICE
    return first if middle < 0.4 else last if middle > 0.6 else "middle"


COLOURS = Spot("colours")
FRAME_SPOT = Spot("frame", depth=FRAME)
STRIPS = (
    Spot("strip", bottom=STRIP),
    Spot("strip", top=LATTICE - STRIP),
    Spot("strip", right=STRIP),
    Spot("strip", left=LATTICE - STRIP),
)
PATCHES = tuple(
    Spot("patch", top, left, top + PATCH, left + PATCH)
    for top in range(0, LATTICE - PATCH + 1, STEP)
    for left in range(0, LATTICE - PATCH + 1, STEP)
)


def controls(spot: Spot) -> tuple[Spot, ...]:
    """Spots of about the same size elsewhere, with no cell in common: mirrored patches, parallel strips, an inner ring.

    None for colours.
    """
    if spot.kind == "colours":
        return ()
    if spot.kind == "frame":
        inner = spot.depth + 1
        return (Spot("frame", inner, inner, LATTICE - inner, LATTICE - inner, spot.depth + 1),)
    if spot.kind == "strip":
        middle = (LATTICE - STRIP) // 2
        across = spot.left == 0 and spot.right == LATTICE
        others = (
            Spot("strip", top=at, bottom=at + STRIP) if across else Spot("strip", left=at, right=at + STRIP)
            for at in (0, middle, LATTICE - STRIP)
        )
        return tuple(other for other in others if other != spot)
    far = LATTICE - PATCH
    mirrored = [
        Spot("patch", top, left, top + PATCH, left + PATCH)
        for top, left in (
            (spot.top, far - spot.left),
            (far - spot.top, spot.left),
            (far - spot.top, far - spot.left),
            (0, 0),
            (far, far),
            (0, far),
            (far, 0),
        )
    ]
    apart = [other for other in dict.fromkeys(mirrored) if not (other.cells & spot.cells).any()]
    return tuple(apart[:3])


def without_overlap(ranked: Sequence[Spot], count: int) -> list[Spot]:
    """The first ``count`` spots that share less than `SHARED` with an earlier one."""
    kept: list[Spot] = []
    for spot in ranked:
        if len(kept) < count and all(spot.overlap(other) < SHARED for other in kept):
            kept.append(spot)
    return kept
