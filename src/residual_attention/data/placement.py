"""Splits made by us: each image's side is a function of its content, so that added images move no others.

An image is held out if a number drawn from (seed, split, content) is below the split's share. No rule that looks at
the other images could promise that none of them moves when some are added; the price is that a share of 10 % of 40
images is 4 on average, not always. Three exceptions, all reported or kept:

- a class of `FEW` images or more of which none is held out lends one, and a class of which all are held out keeps one;
- near copies of an image, and images of one group, share a draw;
- images that an earlier run has placed stay where they were.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .fingerprints import DIGEST_BYTES, Families, Pair
from .randomness import derive_seed

FEW = 3  # images of a class, from which on one is held out
SPLITS = ("train", "val", "test")
RANGE = float(2**63)  # of derive_seed


@dataclass(frozen=True)
class Placed:
    """The split of each image of a run, by the digest of its content; also of runs whose weights it started from."""

    sides: Mapping[bytes, str] = field(default_factory=dict)

    def of(self, digest: bytes) -> str | None:
        return self.sides.get(digest)

    def joined(self, later: Mapping[bytes, str]) -> "Placed":
        """With images of a later run; training images stay training images."""
        return Placed({**self.sides, **{k: v for k, v in later.items() if self.sides.get(k) != "train"}})

    def held_out(self) -> "Placed":
        """Without the training images, for files that are meant to be shared."""
        return Placed({digest: side for digest, side in self.sides.items() if side != "train"})

    def to_dict(self) -> dict[str, str]:
        """The sorted digests of each split, concatenated, in base 64: eleven characters an image."""
        parts = {split: sorted(d for d, side in self.sides.items() if side == split) for split in SPLITS}
        return {split: base64.b64encode(b"".join(found)).decode() for split, found in parts.items() if found}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Placed":
        """Inverse of `to_dict`. Raises ValueError for text that is not base 64."""
        sides: dict[bytes, str] = {}
        for split in SPLITS:
            joined = base64.b64decode(values.get(split, ""), validate=True)
            sides |= {joined[i : i + DIGEST_BYTES]: split for i in range(0, len(joined), DIGEST_BYTES)}
        return cls(sides)


@dataclass(frozen=True)
class Item:
    """What placement knows of an image: its ``digest``, the classes in it, its group if it has one."""

    digest: bytes
    classes: frozenset[int]
    group: str | None = None


@dataclass
class _Unit:
    """Images that must stay together: exact and near copies, or a group."""

    key: str
    members: list[int] = field(default_factory=list)
    classes: set[int] = field(default_factory=set)
    side: str | None = None


def units_of(items: Sequence[Item], near: Iterable[Pair]) -> list[int]:
    """The unit of each item: exact and near copies share one, and so do images of a group."""
    first: dict[object, int] = {}
    families = Families().join(near)
    for i, item in enumerate(items):
        for mark in (item.digest, item.group):
            if mark:
                families.join([Pair(first.setdefault(mark, i), i, True)])
    return [families.of(i) for i in range(len(items))]


def _units(items: Sequence[Item], near: Iterable[Pair]) -> list[_Unit]:
    """The key of a unit is its smallest group or digest, so that it is the same whatever the files are called."""
    units: dict[int, _Unit] = {}
    for i, (item, number) in enumerate(zip(items, units_of(items, near), strict=True)):
        key = f"group {item.group}" if item.group else item.digest.hex()
        unit = units.setdefault(number, _Unit(key))
        unit.key = min(unit.key, key)
        unit.members.append(i)
        unit.classes |= item.classes
    return list(units.values())


def _draw(unit: _Unit, seed: int, split: str) -> float:
    return derive_seed(seed, "placement", split, unit.key) / RANGE


def _hold_out(units: list[_Unit], split: str, fraction: float, seed: int) -> list[int]:
    """Move units that are not placed yet to ``split``. Returns the classes that lent one for lack of any."""
    free = [unit for unit in units if unit.side is None]
    draws = {id(unit): _draw(unit, seed, split) for unit in free}
    for unit in free:
        if draws[id(unit)] < fraction:
            unit.side = split
    lenders = []
    for label in sorted({label for unit in units for label in unit.classes}):
        of_class = [unit for unit in units if label in unit.classes and unit.side in (None, "train", split)]
        kept = [unit for unit in of_class if unit.side != split]
        movable = sorted((unit for unit in of_class if id(unit) in draws), key=lambda unit: draws[id(unit)])
        if not kept and movable:
            movable[-1].side = None
        elif len(kept) == len(of_class) and len(of_class) >= FEW and fraction > 0:
            lent = next((unit for unit in movable if _can_spare(unit, units, split)), None)
            if lent is not None:
                lent.side = split
                lenders.append(label)
    return lenders


def _can_spare(unit: _Unit, units: list[_Unit], split: str) -> bool:
    """Whether each class of the unit has another one that stays in training."""
    others = [other for other in units if other is not unit and other.side in (None, "train")]
    return unit.side is None and all(any(label in other.classes for other in others) for label in unit.classes)


@dataclass(frozen=True)
class Placement:
    """The split of each item, and the classes that lent a unit to each split for lack of any."""

    sides: list[str]
    lenders: Mapping[str, list[int]]


def place(
    items: Sequence[Item],
    near: Iterable[Pair],
    *,
    fractions: Mapping[str, float],
    seed: int,
    placed: Placed | None = None,
) -> Placement:
    """Divide items into train and the splits of ``fractions``, in their order: each takes its share of what is left.

    ``near``: pairs of near copies, by position. ``placed``: images whose side is known; a unit with such an image
    follows it, to training if they disagree.
    """
    units = _units(items, near)
    known = {} if placed is None else {i: side for i, item in enumerate(items) if (side := placed.of(item.digest))}
    for unit in units:
        sides = [known[i] for i in unit.members if i in known]
        unit.side = min(sides, key=SPLITS.index) if sides else None
    lenders = {split: _hold_out(units, split, fraction, seed) for split, fraction in fractions.items()}
    sides = ["train"] * len(items)
    for unit in units:
        for i in unit.members:
            sides[i] = known.get(i) or unit.side or "train"
    return Placement(sides, lenders)
