"""Batches for training and evaluation: which samples, in which order, augmented how.

The order of an epoch is a function of (seed, epoch), the draws of a batch of (seed, epoch, step), those of
a decoded file of (seed, epoch, sample); so a run can stop after any step and go on with any worker count.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2

from .augment import Augment, augment_batch
from .datasets import Samples, StoredSamples, TensorSamples
from .images import ImageError
from .preprocess import Preprocess
from .randomness import derive_seed, numpy_generator, torch_generator


class TrainBatch(NamedTuple):
    """``images`` (B, C, S, S) normalised; ``targets`` (B,) classes or (B, K) distributions."""

    images: Tensor
    targets: Tensor


class EvalBatch(NamedTuple):
    """``images`` (B, C, S, S) normalised, ``labels`` (B,), and each sample's ``indices`` (B,) in its split."""

    images: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Shard:
    """This process among those that share each batch."""

    rank: int = 0
    world: int = 1


def epoch_order(labels: Tensor, *, seed: int, epoch: int, balanced: bool = False) -> Tensor:
    """The samples of one epoch in order, (N,); ``balanced`` draws each class equally often, with replacement."""
    generator = torch_generator(seed, "order", epoch)
    if not balanced:
        return torch.randperm(len(labels), generator=generator)
    weights = 1.0 / torch.bincount(labels)[labels].double()
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches only; a set smaller than one batch is one batch."""
    return max(1, count // batch_size)


def batch_indices(order: Tensor, batch_size: int, step: int, shard: Shard) -> Tensor:
    """This process's part of a batch of an epoch."""
    return order[step * batch_size : (step + 1) * batch_size][shard.rank :: shard.world]


class _TrainingFiles(TorchDataset):
    """Decoded, cropped uint8 images; the key is (epoch, sample). An unreadable file gives None."""

    def __init__(self, samples: StoredSamples, preprocess: Preprocess, seed: int, config: "FileAugment") -> None:
        self.samples, self.preprocess, self.seed, self.config = samples, preprocess, seed, config
        self.transform = config.transform(preprocess)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int] | tuple[None, int, int]:
        epoch, index = key
        label = int(self.samples.labels[index])
        try:
            image = self.samples.read(index, self.preprocess.in_chans)
        except ImageError:
            if not self.config.skip_bad_images:
                raise
            return None, label, index
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "image", epoch, index))
            return self.transform(image), label, index


@dataclass(frozen=True)
class FileAugment:
    """What is done to one large image while it is decoded; the rest is done to the batch."""

    min_scale: float = 0.08
    color_jitter: float = 0.0
    skip_bad_images: bool = True

    def transform(self, preprocess: Preprocess) -> v2.Compose:
        """``crop`` takes a random area and aspect ratio (Szegedy et al., 2015); the others the whole image."""
        size = preprocess.image_size
        geometry = (
            [v2.PILToTensor(), v2.RandomResizedCrop(size, scale=(self.min_scale, 1.0), antialias=True)]
            if preprocess.resize == "crop"
            else [preprocess.to_uint8]
        )
        strength = self.color_jitter
        colour = [v2.ColorJitter(strength, strength, strength)] if strength else []
        return v2.Compose([*geometry, *colour])


class _EvaluationFiles(TorchDataset):
    """Decoded uint8 images in order; an unreadable file is an error."""

    def __init__(self, samples: StoredSamples, preprocess: Preprocess) -> None:
        self.samples, self.preprocess = samples, preprocess

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image = self.samples.read(index, self.preprocess.in_chans)
        return self.preprocess.to_uint8(image), int(self.samples.labels[index]), index


def _collate(items: list) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Images, labels and indices of the readable samples, and the indices of the others."""
    good = [item for item in items if item[0] is not None]
    bad = [item[2] for item in items if item[0] is None]
    images = torch.stack([item[0] for item in good]) if good else torch.empty(0)
    return images, torch.tensor([i[1] for i in good]), torch.tensor([i[2] for i in good]), bad


def _single_threaded(_worker: int) -> None:
    torch.set_num_threads(1)


def _file_loader(files: TorchDataset, keys: list, workers: int, device: torch.device) -> DataLoader:
    return DataLoader(
        files,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=_single_threaded,
        prefetch_factor=4 if workers else None,
    )


@dataclass
class TrainingData:
    """The training split as batches. ``skipped`` collects the indices of unreadable images as they are met."""

    samples: Samples
    preprocess: Preprocess
    augment: Augment
    num_classes: int
    batch_size: int
    seed: int
    device: torch.device
    files: FileAugment = field(default_factory=FileAugment)
    balanced: bool = False
    workers: int = 0
    shard: Shard = field(default_factory=Shard)
    skipped: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if isinstance(self.samples, TensorSamples):
            self.images = self.samples.images.to(self.device)
            self.labels = self.samples.labels.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.samples), self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0, size: int | None = None) -> Iterator[TrainBatch]:
        """The batches of an epoch from ``first_step`` on, images resized to ``size`` px if given."""
        order = epoch_order(self.samples.labels, seed=self.seed, epoch=epoch, balanced=self.balanced)
        steps = range(first_step, self.steps_per_epoch)
        parts = [batch_indices(order, self.batch_size, step, self.shard) for step in steps]
        for step, (images, labels) in zip(steps, self._read(epoch, parts), strict=True):
            rng = numpy_generator(self.seed, "batch", epoch, step, self.shard.rank)
            images = self.preprocess.normalize(images)
            images, targets = augment_batch(images, labels, self.num_classes, self.augment, rng)
            if size is not None and size != images.shape[-1]:
                images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
            yield TrainBatch(images, targets)

    def _read(self, epoch: int, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 images and labels of each part, on the device."""
        if isinstance(self.samples, TensorSamples):
            for indices in parts:
                indices = indices.to(self.device)
                yield self.images[indices], self.labels[indices]
            return
        files = _TrainingFiles(self.samples, self.preprocess, self.seed, self.files)
        keys = [[(epoch, index) for index in indices.tolist()] for indices in parts]
        for images, labels, _, bad in _file_loader(files, keys, self.workers, self.device):
            self.skipped.update(bad)
            if not len(labels):
                raise ValueError(f"not one image of a batch of {len(bad)} could be read; check the data folder")
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def evaluation_batches(
    samples: Samples,
    preprocess: Preprocess,
    *,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    shard: Shard | None = None,
) -> Iterator[EvalBatch]:
    """Every sample of a split once, over all processes, in order.

    Raises:
        ImageError: an unreadable file; evaluation neither skips nor substitutes.
    """
    shard = shard or Shard()
    mine = torch.arange(len(samples))[shard.rank :: shard.world]
    parts = mine.split(batch_size)
    if isinstance(samples, TensorSamples):
        for indices in parts:
            images = preprocess.normalize(samples.images[indices].to(device))
            yield EvalBatch(images, samples.labels[indices].to(device), indices)
        return
    files = _EvaluationFiles(samples, preprocess)
    keys = [indices.tolist() for indices in parts]
    for images, labels, indices, _ in _file_loader(files, keys, workers, device):
        yield EvalBatch(preprocess.normalize(images.to(device)), labels.to(device), indices)
