"""WebDataset shards: ``train-000000.tar``, ``val-*.tar``, ``test-*.tar`` with ``KEY.jpg`` and ``KEY.cls`` inside.

Each shard is indexed once (member offsets, kept in the cache), and images are read in place. This gives the random
access that an exact resume needs and a stream lacks. ``.cls`` holds a class number or name; ``classes.txt`` beside the
shards names the numbers, one per line.
"""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image
from torch import Tensor

from ..atomic import write_atomically
from ..errors import UserError
from ..names import check_class_names
from .cache import cache_folder
from .folders import EXTENSIONS, SPLIT_NAMES
from .images import read_image


@dataclass(frozen=True)
class Member:
    """An image inside a shard: its name and the position of its bytes."""

    shard: Path
    name: str
    offset: int
    size: int

    def open(self) -> BinaryIO:
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            content = io.BytesIO(file.read(self.size))
        content.name = f"{self.shard}/{self.name}"
        return content


@dataclass(frozen=True)
class ShardSamples:
    """Images in shards, decoded on demand; ``labels`` (N,) int64."""

    members: tuple[Member, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The image's name, without its folder in the shard."""
        return self.members[index].name.rpartition("/")[2]

    def read(self, index: int, in_chans: int) -> Image.Image:
        """Raises ImageError if the image cannot be read."""
        return read_image(self.members[index].open(), in_chans)

    def subset(self, index: Tensor) -> "ShardSamples":
        return ShardSamples(tuple(self.members[i] for i in index.tolist()), self.labels[index])

    def relabelled(self, labels: Tensor) -> "ShardSamples":
        return ShardSamples(self.members, labels)


def find_shards(root: Path) -> dict[str, list[Path]]:
    """The shards in a folder, by split (the word before their number); empty if there are none."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.glob("*.tar")):
        split = SPLIT_NAMES.get(path.name.split("-")[0].split(".")[0].lower())
        if split:
            found.setdefault(split, []).append(path)
    return found


def _list_members(shard: Path) -> list[tuple[str, int, int, str]]:
    """(name, offset, size, class) of each labelled image of a shard, in order."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                key, suffix = f"{folder}/{stem}", f".{suffix.lower()}" if dot else ""
                if not member.isfile() or not stem:
                    continue
                if suffix in EXTENSIONS:
                    images[key] = (member.name, member.offset_data, member.size)
                elif suffix == ".cls":
                    content = archive.extractfile(member)
                    assert content is not None
                    labels[key] = content.read().decode().strip()
    except (tarfile.TarError, UnicodeDecodeError) as error:
        raise UserError(f"{shard} is not a plain tar file of images and .cls labels: {error}") from None
    _check_whole(shard)
    return [(*image, labels[key]) for key, image in images.items() if key in labels]


INDEX = 2  # version of the cached index: an earlier one did not notice shards that are cut off
END = bytes(2 * tarfile.BLOCKSIZE)  # of a complete tar file


def _check_whole(shard: Path) -> None:
    """Raise UserError for a tar file without its end: a reader takes what is left for all there is."""
    with open(shard, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - len(END)))
        if length % tarfile.BLOCKSIZE or file.read() != END:
            raise UserError(f"{shard} is cut off: its end is missing; copy it again")


def index_shard(shard: Path) -> list[tuple[str, int, int, str]]:
    """`_list_members`, cached until the shard changes."""
    status = shard.stat()
    identity = f"{INDEX}\x1f{shard.resolve()}\x1f{status.st_size}\x1f{status.st_mtime_ns}"
    kept = cache_folder() / "shards" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    if kept.is_file():
        return [tuple(row) for row in json.loads(kept.read_text())]
    rows = _list_members(shard)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(rows).encode())
    except OSError:
        pass  # without the cache, the next run indexes the shard again
    return rows


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()  # a superscript is a digit too, but no number


def _class_names(root: Path, labels: set[str]) -> dict[str, str]:
    """The name of each label: the label itself, or for a number its line in ``classes.txt``, if there is one."""
    names = root / "classes.txt"
    if not names.is_file() or not all(map(_is_number, labels)):
        return {label: label for label in labels}
    lines = [line.strip() for line in names.read_text().splitlines() if line.strip()]
    check_class_names(lines, names)
    beyond = sorted(label for label in labels if int(label) >= len(lines))
    if beyond:
        raise UserError(f"{names} lists {len(lines)} classes, but the shards contain class {beyond[0]}")
    return {label: lines[int(label)] for label in labels}


def read_shards(root: Path, notices: list[str]) -> tuple[list[str], dict[str, ShardSamples]]:
    """Read the class names and splits of a folder of shards; left-out images are reported in ``notices``.

    Raises UserError: no training shards, a file that is not a tar, or a single class.
    """
    shards = find_shards(root)
    if "train" not in shards:
        raise UserError(f"{root} has shards of {', '.join(shards)} but no train-*.tar")
    rows = {split: [(path, *row) for path in paths for row in index_shard(path)] for split, paths in shards.items()}
    names = _class_names(root, {row[4] for row in rows["train"]})
    numbered = all(map(_is_number, names))
    order = sorted(names, key=lambda label: (int(label), label) if numbered else (0, label))
    if len(order) < 2:
        raise UserError(f"{root}: the training shards have {len(order)} classes; a classifier needs at least two")
    position = {label: i for i, label in enumerate(order)}
    check_class_names([names[label] for label in order], root)
    splits = {}
    for split, found in rows.items():
        known = [row for row in found if row[4] in position]
        if len(known) < len(found):
            unknown = ", ".join(sorted({row[4] for row in found} - set(position))[:5])
            count = len(found) - len(known)
            notices.append(f"the {split} shards have {count} images of classes that are not in training: {unknown}")
        members = tuple(Member(path, name, offset, size) for path, name, offset, size, _ in known)
        splits[split] = ShardSamples(members, torch.tensor([position[row[4]] for row in known], dtype=torch.int64))
    return [names[label] for label in order], splits
