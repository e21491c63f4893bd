"""Samples of a split: decoded in memory, or files and shards that are decoded on demand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .images import ImageError, read_image
from .preprocess import Preprocess
from .shards import ShardSamples

IN_MEMORY_PX = 64  # images up to this side are kept in memory as one tensor,
IN_MEMORY_BYTES = 2 * 2**30  # if they take at most this much
DECODERS = 4


def _at(paths: tuple[Path, ...], index: Tensor) -> tuple[Path, ...]:
    """The paths at ``index``, numbers or bools; none of none."""
    numbers = index.nonzero()[:, 0] if index.dtype == torch.bool else index
    return tuple(paths[i] for i in numbers.tolist()) if paths else ()


@dataclass(frozen=True)
class FileSamples:
    """Image files, decoded on demand; ``labels`` (N,) int64, or (N, K) float32 of 0 and 1 with several labels an
    image."""

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The file's name, without its folder."""
        return self.paths[index].name

    def read(self, index: int, in_chans: int) -> Image.Image:
        """Raises ImageError if the file cannot be read."""
        return read_image(self.paths[index], in_chans)

    def subset(self, index: Tensor) -> "FileSamples":
        return FileSamples(_at(self.paths, index), self.labels[index])

    def relabelled(self, labels: Tensor) -> "FileSamples":
        return FileSamples(self.paths, labels)


StoredSamples = FileSamples | ShardSamples


@dataclass(frozen=True)
class TensorSamples:
    """Decoded images in memory: ``images`` (N, C, S, S) uint8; ``labels`` as for `FileSamples`.

    ``origin``: the files that they were decoded from, in the same order, if there are any; its labels are not kept up.
    """

    images: Tensor
    labels: Tensor
    origin: StoredSamples | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "TensorSamples":
        origin = None if self.origin is None else self.origin.subset(index)
        return TensorSamples(self.images[index], self.labels[index], origin)

    def relabelled(self, labels: Tensor) -> "TensorSamples":
        return TensorSamples(self.images, labels, self.origin)


Samples = TensorSamples | FileSamples | ShardSamples


def origin_of(samples: Samples) -> StoredSamples | None:
    """The files of the samples; None of images that were never files, such as an embedded data set's."""
    return samples.origin if isinstance(samples, TensorSamples) else samples


def joined(first: Samples, second: Samples | None) -> Samples:
    """The samples of two splits of one kind as one."""
    if second is None:
        return first
    labels = torch.cat([first.labels, second.labels])
    if isinstance(first, TensorSamples) and isinstance(second, TensorSamples):
        origin = None if first.origin is None or second.origin is None else joined(first.origin, second.origin)
        assert not isinstance(origin, TensorSamples)
        return TensorSamples(torch.cat([first.images, second.images]), labels, origin)
    if isinstance(first, FileSamples) and isinstance(second, FileSamples):
        return FileSamples(first.paths + second.paths, labels)
    assert isinstance(first, ShardSamples)
    assert isinstance(second, ShardSamples)
    return ShardSamples(first.members + second.members, labels)


def fits_in_memory(count: int, side: int, chans: int) -> bool:
    return side <= IN_MEMORY_PX and count * chans * side * side <= IN_MEMORY_BYTES


def decoded(samples: StoredSamples, preprocess: Preprocess) -> Iterator[Tensor | ImageError]:
    """Yield each image as (C, S, S) uint8, or its error if it cannot be read."""

    def one(index: int) -> Tensor | ImageError:
        try:
            return preprocess.to_uint8(samples.read(index, preprocess.in_chans))
        except ImageError as error:
            return error

    with ThreadPoolExecutor(DECODERS) as pool:
        yield from pool.map(one, range(len(samples)))


def readable(
    samples: StoredSamples, preprocess: Preprocess, errors: list[str], *, skip_bad: bool
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number and the pixels of each image that can be read; ``errors`` gets the messages of the others.

    Raises ImageError for an unreadable image unless ``skip_bad``.
    """
    for i, result in enumerate(decoded(samples, preprocess)):
        if isinstance(result, Tensor):
            yield i, result
        elif skip_bad:
            errors.append(str(result))
        else:
            raise result


def decode(samples: StoredSamples, preprocess: Preprocess, *, skip_bad: bool) -> tuple[TensorSamples, list[str]]:
    """Decode all images into memory. Also returns the error messages of skipped images.

    Raises ImageError for an unreadable image unless ``skip_bad``.
    """
    side, chans = preprocess.image_size, preprocess.in_chans
    images = torch.empty(len(samples), chans, side, side, dtype=torch.uint8)
    good: list[int] = []
    errors: list[str] = []
    for i, image in readable(samples, preprocess, errors, skip_bad=skip_bad):
        images[i] = image
        good.append(i)
    if errors:
        kept = samples.subset(torch.tensor(good, dtype=torch.int64))
        return TensorSamples(images[good], kept.labels, kept), errors
    return TensorSamples(images, samples.labels, samples), errors
