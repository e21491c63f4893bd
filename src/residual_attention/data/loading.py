"""Batches for training and evaluation: read, augmented and normalised.

The order of an epoch is a function of (seed, epoch), the augmentation of a batch of (seed, epoch, step), and the
augmentation of a decoded file of (seed, epoch, sample). A run can stop after any step and resume with any number of
workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .augment import augment_batch, crop_at_random, flip_and_crop
from .files import EvaluationFiles, TrainingFiles
from .images import ImageError
from .order import Replica, batch_indices, epoch_order, steps_per_epoch
from .preprocess import Preprocess
from .randomness import numpy_generator, torch_generator
from .readable import none_readable
from .regions import Regions
from .samples import Samples, TensorSamples
from .strengths import Augment
from .transfer import to_device
from .workers import BatchKeys, file_loader, single_threaded


@dataclass(frozen=True)
class TrainBatch:
    """``images`` (B, C, S, S) normalised; ``targets`` (B,) classes or (B, K) distributions.

    With a guide, ``regions`` (B, S, S) in [0, 1] say where the evidence for each image's own class, ``labels`` (B,),
    may lie; a region of zeros is not known.
    """

    images: Tensor
    targets: Tensor
    regions: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def parts(self, count: int) -> list["TrainBatch"]:
        """Split into ``count`` parts of about equal size, or fewer if there are fewer images."""
        fields = (self.images, self.targets, self.regions, self.labels)
        return [TrainBatch(*part) for part in zip(*(_chunks(each, count) for each in fields), strict=False)]


def _chunks(values: Tensor | None, count: int) -> Sequence[Any]:
    return [None] * count if values is None else values.chunk(count)


class EvalBatch(NamedTuple):
    """``images`` (B, C, S, S) normalised, ``labels`` (B,), and each sample's ``indices`` (B,) in its split."""

    images: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(kw_only=True)
class TrainingData:
    """The training split as batches.

    ``repeats``: passes over the split per epoch, each in a different order. ``skipped`` collects the indices of
    unreadable images; these raise ImageError unless ``skip_bad``. ``regions``: a last channel of the images from here
    on. Workers start with the first epoch and persist, so only one epoch of files can be read at a time.
    """

    samples: Samples
    preprocess: Preprocess
    augment: Augment
    num_classes: int
    batch_size: int
    seed: int
    device: torch.device
    balanced: bool = False
    repeats: int = 1
    skip_bad: bool = True
    workers: int = 0
    replica: Replica = field(default_factory=Replica)
    regions: Regions | None = None
    skipped: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if isinstance(self.samples, TensorSamples):
            images = self.samples.images
            if self.regions is not None:
                images = torch.cat([images, self.regions.squares(self.preprocess)], dim=1)
            self.images = images.to(self.device)
            self.labels = self.samples.labels.to(self.device)
        else:
            files = TrainingFiles(self.samples, self.preprocess, self.seed, self.augment, self.regions)
            self.keys = BatchKeys()
            self.loader = file_loader(files, self.keys, self.workers, self.device, workers_stay=True)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.repeats * len(self.samples), self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0, size: int | None = None) -> Iterator[TrainBatch]:
        """Yield the batches of an epoch from ``first_step`` on, with images resized to ``size`` px if given."""
        rounds = range(epoch * self.repeats, (epoch + 1) * self.repeats)
        order = torch.stack([self._order(number) for number in rounds]).flatten(0, 1)  # (repeats * N, 2)
        steps = range(first_step, self.steps_per_epoch)
        parts = [batch_indices(order, self.batch_size, step, self.replica) for step in steps]
        busy = not isinstance(self.samples, TensorSamples) and self.workers > 0 and self.device.type == "cpu"
        for step, (images, labels, indices) in zip(steps, self._read(parts), strict=True):
            rng = numpy_generator(self.seed, "batch", epoch, step, self.replica.rank)
            with single_threaded(busy):
                if self.augment.flip and self.augment.alternate_flip:
                    mirrored = to_device(self.mirrored_first[indices] ^ bool(epoch % 2), images.device)
                    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
                batch = self._augmented(images, labels, rng, size)
            yield batch

    @cached_property
    def mirrored_first(self) -> Tensor:
        """(N,) bool: the samples that ``alternate_flip`` mirrors in even epochs; the others follow in odd ones."""
        return torch.rand(len(self.samples), generator=torch_generator(self.seed, "mirrored")) < 0.5

    def _augmented(self, images: Tensor, labels: Tensor, rng: np.random.Generator, size: int | None) -> TrainBatch:
        """Normalise and augment uint8 images."""
        augment = replace(self.augment, flip=self.augment.flip and not self.augment.alternate_flip)
        if not augment.crop_padding:  # flip before normalising: uint8 is a quarter of the bytes
            images, augment = flip_and_crop(images, augment, rng), replace(augment, flip=False)
        guided = int(self.regions is not None)
        images = self._normalized(images)
        images, targets = augment_batch(images, labels, self.num_classes, augment, rng, regions=guided)
        if size is not None and size != images.shape[-1] and augment.progressive_by == "crop":
            images = crop_at_random(images, size, rng)
        elif size is not None and size != images.shape[-1]:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return TrainBatch(images[:, :-1], targets, images[:, -1], labels) if guided else TrainBatch(images, targets)

    def _normalized(self, images: Tensor) -> Tensor:
        """uint8 to float; a region to [0, 1]."""
        if self.regions is None:
            return self.preprocess.normalize(images)
        return torch.cat([self.preprocess.normalize(images[:, :-1]), images[:, -1:] / 255], dim=1)

    def _order(self, number: int) -> Tensor:
        """(N, 2): the number of the pass, which seeds a file's augmentation, and the sample indices in order."""
        order = epoch_order(self.samples.labels, seed=self.seed, epoch=number, balanced=self.balanced)
        return torch.stack([torch.full_like(order, number), order], dim=1)

    def _read(self, parts: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """uint8 images and labels of each part (n, 2), on the device, and the samples' indices."""
        if isinstance(self.samples, TensorSamples):
            for part in parts:
                indices = to_device(part[:, 1], self.device)
                yield self.images[indices], self.labels[indices], part[:, 1]
            return
        self.keys.batches = [[tuple(key) for key in part.tolist()] for part in parts]
        for images, labels, indices, bad in self.loader:
            if bad and not self.skip_bad:
                raise ImageError(bad[0][1])
            self.skipped.update(index for index, _ in bad)
            if not len(labels):
                raise none_readable(len(bad))
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True), indices


def evaluation_batches(
    samples: Samples,
    preprocess: Preprocess,
    *,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    replica: Replica | None = None,
    skip_bad: bool = False,
) -> Iterator[EvalBatch]:
    """Yield this process's share of a split, in order; together, all processes yield every sample once.

    Raises:
        ImageError: a file is unreadable, unless ``skip_bad``. Use that for training images only: evaluation must not
            skip images.
    """
    replica = replica or Replica()
    mine = torch.arange(len(samples))[replica.rank :: replica.world]
    parts = mine.split(batch_size)
    if isinstance(samples, TensorSamples):
        for indices in parts:
            images = preprocess.normalize(to_device(samples.images[indices], device))
            yield EvalBatch(images, to_device(samples.labels[indices], device), indices)
        return
    files = EvaluationFiles(samples, preprocess)
    keys = BatchKeys([indices.tolist() for indices in parts])
    for images, labels, indices, bad in file_loader(files, keys, workers, device):
        if bad and not skip_bad:
            raise ImageError(bad[0][1])
        if not len(labels):
            continue
        yield EvalBatch(preprocess.normalize(images.to(device)), labels.to(device), indices)
