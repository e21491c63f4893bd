"""The images of DATA, each read once: its fingerprint, and the small square that the feature network reads."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..data.fingerprints import DECODERS, IMAGE_SIDE, Fingerprint, digest_of, fingerprint_of, looked_at
from ..data.folders import FolderListing, Label, split_folders
from ..data.images import read_image
from ..data.listing import list_images
from ..data.load import found_on_disk, load_dataset
from ..data.placement import SPLITS
from ..data.preprocess import Preprocess
from ..data.request import DataRequest
from ..data.samples import FileSamples, TensorSamples
from ..data.shards import find_shards
from ..data.sources import SOURCES
from ..data.splits import evenly_spaced
from ..errors import UserError


@dataclass(frozen=True)
class Entry:
    """An image of the data: its ``path``, or its position in a split that is kept in memory."""

    split: str
    label: Label
    path: Path | None = None
    position: int = 0
    group: str | None = None

    @property
    def name(self) -> str:
        return f"{self.split} {self.position}" if self.path is None else str(self.path)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What DATA holds. ``root``: the folder that names are shown relative to; ``tensors``: the images in memory, by
    split. ``total``: the number of images before ``--limit``."""

    name: str
    classes: list[str]
    entries: list[Entry]
    notices: list[str]
    total: int
    several: bool = False
    root: Path | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def shown(self, entry: Entry) -> str:
        """The entry's name, relative to the data's folder if it lies in it."""
        if entry.path is None or self.root is None or not entry.path.is_relative_to(self.root):
            return entry.name
        return str(entry.path.relative_to(self.root))

    def picture(self, entry: Entry, least_side: int = IMAGE_SIDE) -> Image.Image:
        """The image, of at least that side if it has it. Raises ImageError."""
        if entry.path is not None:
            return read_image(entry.path, 3, least_side=least_side)
        return _as_image(self.tensors[entry.split][entry.position])


@dataclass(frozen=True)
class Gathered:
    """The fingerprint of each entry, and what the network reads of the entries ``read``: (R, C, S, S) uint8."""

    prints: list[Fingerprint]
    read: list[int]
    inputs: Tensor | None


def _as_image(pixels: Tensor) -> Image.Image:
    channels_last = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(channels_last[..., 0] if channels_last.shape[2] == 1 else channels_last)


def find_source(data: str, data_dir: Path | None = None, limit: int | None = None) -> Source:
    """The images of DATA by name or on disk, without reading any. ``limit``: at most so many, evenly spaced.

    Raises UserError for DATA that does not exist or that holds no images in classes.
    """
    if data == "imagenet":
        raise UserError("imagenet is too large to check at once; check a part of it: `ran check DIR --limit 50000`")
    if data not in SOURCES:
        source = _on_disk(found_on_disk(data))
    elif data_dir is not None and data_dir.is_dir() and split_folders(data_dir):
        source = replace(_on_disk(data_dir), name=data)
    else:
        source = _in_memory(data, data_dir)
    if limit is None or limit >= source.total:
        return source
    chosen = [source.entries[i] for i in evenly_spaced(source.total, limit).tolist()]
    notices = [*source.notices, f"{limit:,} of {source.total:,} images are looked at (--limit), evenly spaced"]
    return replace(source, entries=chosen, notices=notices)


def _on_disk(path: Path) -> Source:
    if path.is_dir() and find_shards(path):
        raise UserError(f"{path} holds shards; `ran check` reads folders of images and lists")
    listing: FolderListing = list_images(path, single_class_allowed=True)
    entries = [
        Entry(split, label, file, group=listing.groups.get(file))
        for split, pairs in listing.splits.items()
        for file, label in pairs
    ]
    return Source(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        classes=listing.classes,
        entries=entries,
        notices=list(listing.notices),
        total=len(entries),
        several=listing.several,
        root=path.parent if path.is_file() else path,
    )


def _in_memory(data: str, data_dir: Path | None) -> Source:
    """A named data set in its own splits; nothing is held out of its training images."""
    request = DataRequest(data=data, data_dir=data_dir, val_fraction=0.0, test_fraction=0.0)
    dataset = load_dataset(request)
    entries: list[Entry] = []
    tensors = {}
    for split in SPLITS:
        samples = getattr(dataset, split)
        if samples is None:
            continue
        labels = _labels(samples.labels)
        if isinstance(samples, TensorSamples):
            tensors[split] = samples.images
            entries += [Entry(split, label, position=i) for i, label in enumerate(labels)]
        elif isinstance(samples, FileSamples):
            entries += [Entry(split, label, path) for label, path in zip(labels, samples.paths, strict=True)]
        else:
            raise UserError(f"{data} comes as shards; `ran check` reads folders of images and lists")
    return Source(
        name=dataset.name,
        classes=dataset.classes,
        entries=entries,
        notices=list(dataset.notices),
        total=len(entries),
        several=dataset.several,
        tensors=tensors,
    )


def _labels(labels: Tensor) -> list[Label]:
    if labels.ndim == 1:
        return labels.tolist()
    return [tuple(row.nonzero().flatten().tolist()) for row in labels]


def gather(source: Source, preprocess: Preprocess | None, tell: Callable[[int], None] = lambda done: None) -> Gathered:
    """Read every image once. ``preprocess``: the feature network's; None if labels are not checked.

    ``tell`` is called with the number of images read so far.
    """
    chans = 1 if preprocess is None else preprocess.in_chans

    def one(entry: Entry) -> tuple[Fingerprint, Tensor | None]:
        if entry.path is not None:
            found, image = looked_at(entry.path, chans)
        else:
            pixels = source.tensors[entry.split][entry.position]
            image = _as_image(pixels)
            found = fingerprint_of(digest_of(pixels.contiguous().numpy().tobytes()), image)
        return found, None if image is None or preprocess is None else preprocess.to_uint8(image)

    prints: list[Fingerprint] = []
    inputs: list[Tensor] = []
    read: list[int] = []
    for i, (found, square) in enumerate(_in_threads(one, source.entries)):
        prints.append(found)
        if not found.error:
            read.append(i)
        if square is not None:
            inputs.append(square)
        tell(i + 1)
    return Gathered(prints, read, torch.stack(inputs) if inputs else None)


def _in_threads(one: Callable[[Entry], tuple[Fingerprint, Tensor | None]], entries: list[Entry]) -> Iterator:
    with ThreadPoolExecutor(DECODERS) as pool:
        yield from pool.map(one, entries)
