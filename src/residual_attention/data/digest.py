"""A digest of a data set on disk, so that a resumed run notices other data even when their counts are equal."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .folders import FolderListing, Label
from .splits import evenly_spaced

MOST_STATS = 200_000  # files whose sizes are compared; of larger sets, names and classes only
SAMPLED = 64  # files of which the first and last bytes are compared
ENDS = 4096  # bytes at each end
WHAT = {"names": "the names of its files", "classes": "the classes of its images", "sizes": "the sizes of its files"}
WHAT |= {"contents": "the contents of its files", "boxes": "its boxes", "guide": "the boxes or masks of its guide"}


def _hex(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(os.fsencode(part))
        digest.update(b"\x1f")
    return digest.hexdigest()[:32]


def _ends(path: Path) -> str:
    with open(path, "rb") as file:
        first = file.read(ENDS)
        file.seek(max(0, file.seek(0, os.SEEK_END) - ENDS))
        return hashlib.sha256(first + file.read(ENDS)).hexdigest()


def digest_of(rows: Sequence[tuple[str, Path, str]], **more: Iterable[str]) -> dict[str, str]:
    """Digests of (split, path, class) rows: names relative to their common folder, classes, sizes, sampled contents.

    ``more``: further text to digest, by what it is. The order of the rows does not matter.
    """
    if not rows:
        return {}
    root = os.path.commonpath([path.parent for _, path, _ in rows])
    ordered = sorted((os.path.relpath(path, root), split, label, path) for split, path, label in rows)
    found = {
        "names": _hex(f"{split}/{name}" for name, split, _, _ in ordered),
        "classes": _hex(label for _, _, label, _ in ordered),
    }
    paths = [path for *_, path in ordered]
    if len(paths) <= MOST_STATS and all(os.path.isfile(path) for path in paths):
        found["sizes"] = _hex(str(path.stat().st_size) for path in paths)
        found["contents"] = _hex(_ends(paths[i]) for i in evenly_spaced(len(paths), SAMPLED).tolist())
    return found | {what: _hex(parts) for what, parts in more.items()}


def listing_digest(listing: FolderListing) -> dict[str, str]:
    """Digests of a folder's images with the names of their classes."""

    def named(label: Label) -> str:
        return ";".join(listing.classes[i] for i in ((label,) if isinstance(label, int) else label))

    return digest_of([(split, path, named(each)) for split, pairs in listing.splits.items() for path, each in pairs])


def difference(then: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """What differs, in words; None if nothing that both know of does."""
    changed = [WHAT[key] for key in WHAT if key in then and key in now and then[key] != now[key]]
    return " and ".join(changed[:2]) if changed else None
