"""What identifies an image file: the hash of its bytes, and a perceptual hash that near copies share.

Near copies are found by the perceptual hash of `imagehash` (64 bits of the discrete cosine transform of the image
at 32x32 px) and confirmed by the correlation of the thumbnails, because images of one kind, such as digits or cells,
share their hash far more often than photographs.
"""

import errno
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from .images import ImageError, read_image
from .walk import is_regular

DIGEST_BYTES = 8  # of the SHA-256: two of a million images collide with a probability of 3e-8
HASHED, SIDE = 32, 16  # px of what the perceptual hash reads, and of the thumbnail that is compared
IMAGE_SIDE = 2 * HASHED  # px, from which both are made
ROWS = 2048  # compared at a time
DECODERS = 4


class Likeness(NamedTuple):
    """At most ``bits`` of 64 differ between the perceptual hashes, and the thumbnails' ``correlation`` is at least
    this."""

    bits: int
    correlation: float


NEAR, STRICT = Likeness(12, 0.95), Likeness(4, 0.98)
LARGEST_FAMILY = 20  # images that are near copies of one another


@dataclass(frozen=True)
class Fingerprint:
    """``digest``: the start of the SHA-256 of the file's bytes, empty if it cannot be opened; ``error``: why it is not
    a readable image. ``hash`` (64,) bool and ``thumbnail`` (`SIDE`, `SIDE`) uint8 are None without an image, or if they
    were not asked for. ``size`` (width, height) in px and ``mode`` are the file's own."""

    digest: bytes
    hash: np.ndarray | None = None
    thumbnail: np.ndarray | None = None
    size: tuple[int, int] | None = None
    mode: str = ""
    error: str = ""


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


def _content(path: Path) -> bytes:
    """Raises OSError, also for a pipe or device, whose reading may never end."""
    if path.exists() and not path.is_dir() and not is_regular(path):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_bytes()


def fingerprint_of(digest: bytes, image: Image.Image) -> Fingerprint:
    """The fingerprint of an image that is read already; ``digest`` is of its file, or of its pixels without one."""
    import imagehash

    size, mode = image.info.get("original", (image.size, image.mode))
    small = image.convert("L").resize((HASHED, HASHED), Image.Resampling.BILINEAR)  # antialiased
    thumbnail = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Fingerprint(digest, imagehash.phash(small).hash.ravel(), thumbnail, size, mode)


def looked_at(path: Path, in_chans: int = 1) -> tuple[Fingerprint, Image.Image | None]:
    """The fingerprint of a file and its image, read at a reduced size where the format allows it; None if unreadable.

    The image has `IMAGE_SIDE` px or more on its shorter side, or its own size.
    """
    try:
        content = _content(path)
    except OSError as error:
        return Fingerprint(b"", error=f"{path}: {error.strerror or error}"), None
    source = io.BytesIO(content)
    source.name = str(path)
    try:
        found = read_image(source, in_chans, least_side=IMAGE_SIDE)
    except ImageError as error:
        return Fingerprint(digest_of(content), error=str(error)), None
    return fingerprint_of(digest_of(content), found), found


def _fingerprint(path: Path, look: bool) -> Fingerprint:
    if look:
        return looked_at(path)[0]
    try:
        return Fingerprint(digest_of(_content(path)))
    except OSError as error:
        return Fingerprint(b"", error=f"{path}: {error.strerror or error}")


def fingerprints(paths: Sequence[Path], *, look: bool = True) -> Iterator[Fingerprint]:
    """The fingerprint of each file, in order; ``look=False`` reads the bytes alone, for very many files."""
    with ThreadPoolExecutor(DECODERS) as pool:
        yield from pool.map(lambda path: _fingerprint(path, look), paths)


class Pair(NamedTuple):
    """The positions of two images that are copies, ``first < second``; ``exact``: their bytes are the same."""

    first: int
    second: int
    exact: bool


def exact_copies(prints: Sequence[Fingerprint]) -> list[Pair]:
    """Each file with the first one of the same bytes."""
    first: dict[bytes, int] = {}
    found = []
    for i, one in enumerate(prints):
        if one.digest and (before := first.setdefault(one.digest, i)) != i:
            found.append(Pair(before, i, True))
    return found


@dataclass
class Families:
    """Disjoint sets of images that are copies of one another (union-find)."""

    parent: dict[int, int] = field(default_factory=dict)

    def of(self, member: int) -> int:
        """The representative of the image's set."""
        while (above := self.parent.get(member, member)) != member:
            self.parent[member] = self.parent.get(above, above)
            member = above
        return member

    def join(self, pairs: Iterable[Pair]) -> "Families":
        for pair in pairs:
            first, second = self.of(pair.first), self.of(pair.second)
            self.parent[max(first, second)] = min(first, second)
        return self

    def sets(self, count: int) -> list[list[int]]:
        """Those with two members or more, each sorted, in the order of their first members."""
        found: dict[int, list[int]] = {}
        for i in range(count):
            found.setdefault(self.of(i), []).append(i)
        return [members for members in found.values() if len(members) > 1]


def near_copies(prints: Sequence[Fingerprint]) -> list[Pair]:
    """Pairs of images that look the same but differ in their bytes: resized, compressed again, slightly edited.

    Each exact copy counts once. Pairs that chain more than `LARGEST_FAMILY` images are of one kind rather than copies
    (handwriting, say); of those, only `STRICT` ones count. All pairs are compared: 20,000 images in three seconds.
    """
    seen: set[bytes] = set()
    where = []
    for i, one in enumerate(prints):
        if one.thumbnail is not None and one.digest not in seen and np.ptp(one.thumbnail) > 0:
            seen.add(one.digest)
            where.append(i)
    if len(where) < 2:
        return []
    bits = torch.from_numpy(np.stack([prints[i].hash for i in where])).float() * 2 - 1  # type: ignore[misc]
    looks = torch.from_numpy(np.stack([prints[i].thumbnail for i in where])).float().flatten(1)  # type: ignore[misc]
    looks = looks - looks.mean(dim=1, keepdim=True)
    looks = looks / looks.norm(dim=1, keepdim=True)
    found = list(_alike(bits, looks))
    families = Families().join(pair for pair, _ in found)
    large = {families.of(members[0]) for members in families.sets(len(where)) if len(members) > LARGEST_FAMILY}
    kept = (pair for pair, strict in found if strict or families.of(pair.first) not in large)
    return [Pair(where[pair.first], where[pair.second], False) for pair in kept]


def _alike(bits: torch.Tensor, looks: torch.Tensor) -> Iterator[tuple[Pair, bool]]:
    """Pairs of rows of ``bits`` (N, 64), of -1 and 1, and ``looks`` (N, P), of unit length, that are alike in both;
    and whether they are so by the `STRICT` limits."""
    for start in range(0, len(bits), ROWS):
        differing = (bits.shape[1] - bits[start : start + ROWS] @ bits[start:].T) / 2
        rows = (differing <= NEAR.bits).nonzero()
        for part in rows[rows[:, 0] < rows[:, 1]].split(100_000):
            first, second = part[:, 0] + start, part[:, 1] + start
            correlation = (looks[first] * looks[second]).sum(dim=1)
            strict = (correlation >= STRICT.correlation) & (differing[part[:, 0], part[:, 1]] <= STRICT.bits)
            near = correlation >= NEAR.correlation
            for a, b, is_strict in zip(first[near].tolist(), second[near].tolist(), strict[near].tolist(), strict=True):
                yield Pair(a, b, False), is_strict
