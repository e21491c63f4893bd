"""Held-out splits, stratified by class; the choice depends on the content of the images, not on their names.

`place_pictures` is the rule of new runs, `hold_out` that of runs before the option ``split_rule``.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ..boxes.annotations import Picture, Pictures
from ..data.arrange import MAX_LOOKED, copy_notices
from ..data.fingerprints import fingerprints, near_copies
from ..data.placement import Item, Placed, place
from ..data.randomness import derive_seed

READ = 65_536  # bytes of a file that, together with its length, identify it


def _draw(picture: Picture, seed: int, name: str) -> int:
    """A pseudo-random number from the file's content; equal for copies."""
    with open(picture.path, "rb") as file:
        digest = hashlib.blake2b(file.read(READ), digest_size=16).hexdigest()
    return derive_seed(seed, name, digest, picture.path.stat().st_size)


def hold_out(pictures: Pictures, fraction: float, seed: int, name: str) -> tuple[Pictures, Pictures]:
    """(kept, held): ``fraction`` of the images of each class, at least one where it has two, but never its last one.

    An image counts for every class in it; the rarest class chooses first (after Sechidis et al., 2011), images without
    boxes come last. The draw depends on ``seed``, ``name`` and the images' content: adding files changes it for few
    images, and copies of an image stay together.
    """
    draws = [_draw(picture, seed, name) for picture in pictures.pictures]
    shown: dict[int, set[str]] = {draw: set() for draw in draws}  # classes of each distinct image
    for draw, picture in zip(draws, pictures.pictures, strict=True):
        shown[draw] |= {box.name for box in picture.boxes if not box.ignored}
    kept = Counter(label for labels in shown.values() for label in labels)  # images per class
    held: set[int] = set()
    decided: set[int] = set()
    for label in sorted(kept, key=lambda label: (kept[label], label)):
        members = sorted(draw for draw, labels in shown.items() if label in labels)
        wanted = min(len(members) - 1, max(1, round(fraction * len(members)))) - len(held.intersection(members))
        for draw in members:
            if draw not in decided and wanted > 0 and all(kept[other] > 1 for other in shown[draw]):
                held.add(draw)
                kept.subtract(shown[draw])
                wanted -= 1
        decided.update(members)
    empty = sorted(draw for draw, labels in shown.items() if not labels)
    held.update(empty[: round(fraction * len(empty))])
    parts = ([i for i, draw in enumerate(draws) if (draw in held) is taken] for taken in (False, True))
    first, second = map(pictures.subset, parts)
    return first, second


class PlacedPictures(NamedTuple):
    """The images of each split, where each image went, and what the search for copies found."""

    splits: dict[str, Pictures]
    placed: Placed
    notices: list[str]


def place_pictures(
    pictures: Pictures, fractions: Mapping[str, float], seed: int, placed: Placed | None = None
) -> PlacedPictures:
    """Divide images into train and the splits of ``fractions`` by `data.placement.place`.

    An image counts for every class in it. ``placed``: images of an earlier run, which stay where they were.
    """
    paths = [picture.path for picture in pictures.pictures]
    prints = list(fingerprints(paths, look=len(paths) <= MAX_LOOKED))
    number = {name: i for i, name in enumerate(pictures.classes)}
    items = [
        Item(one.digest, frozenset(number[box.name] for box in picture.boxes if not box.ignored and box.name in number))
        for one, picture in zip(prints, pictures.pictures, strict=True)
    ]
    near = near_copies(prints)
    sides = place(items, near, fractions=fractions, seed=seed, placed=placed).sides
    splits = {
        split: pictures.subset(i for i, side in enumerate(sides) if side == split) for split in ("train", *fractions)
    }
    record = {one.digest: side for one, side in zip(prints, sides, strict=True) if one.digest}
    return PlacedPictures(splits, (placed or Placed()).joined(record), copy_notices(paths, prints, near, sides))
