"""Exact and near copies among the images, and what the images are like: counts, sizes, channels."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

import numpy as np

from ..data.fingerprints import Families, Fingerprint, Pair, exact_copies, near_copies
from ..data.readable import FEW_IMAGES
from .findings import Copies, Family, Image, Overview, Sizes
from .gather import Entry, Source

MAX_COMPARED = 100_000  # images among which near copies are searched for: all pairs are compared


def pairs_among(prints: Sequence[Fingerprint], notices: list[str]) -> list[Pair]:
    """Exact and near copies; of more than `MAX_COMPARED` images exact ones only, with a notice."""
    exact = exact_copies(prints)
    if len(prints) > MAX_COMPARED:
        notices.append(f"more than {MAX_COMPARED:,} images, so near copies are not looked for; --limit checks fewer")
        return exact
    return [*exact, *near_copies(prints)]


def image_of(source: Source, entry: Entry) -> Image:
    labels = (entry.label,) if isinstance(entry.label, int) else entry.label
    return Image(source.shown(entry), entry.split, tuple(source.classes[label] for label in labels))


def sorted_families(source: Source, pairs: Sequence[Pair]) -> list[list[int]]:
    """The sets of copies by position: first those that matter most, across splits and of several classes."""
    entries = source.entries
    sets = Families().join(pairs).sets(len(entries))

    def urgency(members: list[int]) -> tuple[bool, bool]:
        of = [entries[i] for i in members]
        return len({entry.split for entry in of}) < 2, len({entry.label for entry in of}) < 2

    return sorted(sets, key=urgency)


def find_copies(source: Source, prints: Sequence[Fingerprint], families: Sequence[Sequence[int]]) -> Copies:
    """The families as they are reported. An image counts once, as a copy of the first one of its family."""
    found, exact, near, held_out = [], 0, 0, 0
    for members in families:
        of = [source.entries[i] for i in members]
        digests = [prints[i].digest for i in members]
        splits, labels = {entry.split for entry in of}, {entry.label for entry in of}
        found.append(
            Family(
                images=tuple(image_of(source, entry) for entry in of),
                exact=len(set(digests)) == 1,
                across_splits=len(splits) > 1,
                classes_differ=len(labels) > 1,
            )
        )
        exact += len(digests) - len(set(digests))
        near += len(set(digests)) - 1
        if "train" in splits:
            held_out += sum(entry.split != "train" for entry in of)
    return Copies(
        exact=exact,
        near=near,
        held_out_in_training=held_out,
        classes_differ=sum(family.classes_differ for family in found),
        families=tuple(found),
    )


def _sizes(prints: Sequence[Fingerprint]) -> Sizes | None:
    sizes = [one.size for one in prints if one.size]
    if not sizes:
        return None
    return Sizes(
        smallest=min(sizes, key=lambda size: size[0] * size[1]),
        median=(round(median(width for width, _ in sizes)), round(median(height for _, height in sizes))),
        largest=max(sizes, key=lambda size: size[0] * size[1]),
        distinct=len(set(sizes)),
    )


def overview(source: Source, prints: Sequence[Fingerprint]) -> Overview:
    counts: dict[str, Counter[str]] = {}
    for entry in source.entries:
        of_split = counts.setdefault(entry.split, Counter(dict.fromkeys(source.classes, 0)))
        of_split.update(image_of(source, entry).classes)
    training = counts.get("train", counts.get("all", Counter()))
    blank = [i for i, one in enumerate(prints) if one.thumbnail is not None and np.ptp(one.thumbnail) == 0]
    return Overview(
        counts={split: dict(of_split) for split, of_split in counts.items()},
        sizes=_sizes(prints),
        channels=dict(Counter(one.mode for one in prints if one.mode).most_common()),
        tiny={name: count for name, count in training.items() if count < FEW_IMAGES},
        blank=tuple(source.shown(source.entries[i]) for i in blank),
    )
