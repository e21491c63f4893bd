"""The images: CIFAR-100 or noise, in two halves of its classes, and batches of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from residual_attention.data.augment import flip_and_crop
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.samples import TensorSamples
from residual_attention.data.strengths import Augment
from residual_attention.data.transfer import to_device

CIFAR_IMAGES_PER_CLASS = 500


@dataclass(frozen=True)
class Images:
    """uint8 images (N, 3, S, S) and labels (N,) from 0."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def normalized(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean.to(images.device)) / self.std.to(images.device)

    def of_classes(self, first: int, count: int) -> "Images":
        taken = (self.labels >= first) & (self.labels < first + count)
        return Images(self.images[taken], self.labels[taken] - first, self.mean, self.std)

    def each(self, count: int, seed: int) -> "Images":
        """``count`` images a class, drawn by the seed."""
        return self._of_each_class(slice(count), seed)

    def last_of_each(self, count: int, seed: int) -> "Images":
        """The ``count`` images a class that `each` would draw last."""
        return self._of_each_class(slice(-count, None), seed)

    def _of_each_class(self, part: slice, seed: int) -> "Images":
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.labels), generator=generator)
        index = torch.cat([order[self.labels[order] == label][part] for label in self.labels.unique().tolist()])
        return Images(self.images[index], self.labels[index], self.mean, self.std)


@dataclass(frozen=True)
class Half:
    """The images of half of the classes."""

    train: Images
    test: Images


@dataclass(frozen=True)
class Halves:
    """``first`` stands for the trunk's training, ``second`` is learned."""

    first: Half
    second: Half


def halves(train: Images, test: Images, classes: int) -> Halves:
    """``classes`` in each half."""
    first, second = (Half(train.of_classes(start, classes), test.of_classes(start, classes)) for start in (0, classes))
    return Halves(first, second)


def cifar(data_dir: Path | None) -> tuple[Images, Images]:
    """CIFAR-100's training and test images."""
    dataset = load_dataset(DataRequest(data="cifar100", data_dir=data_dir, val_fraction=0.0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (dataset.preprocess.mean, dataset.preprocess.std))
    parts = []
    for samples in (dataset.train, dataset.test):
        assert isinstance(samples, TensorSamples)
        parts.append(Images(samples.images, samples.labels, mean, std))
    return parts[0], parts[1]


def noise(classes: int) -> tuple[Images, Images]:
    """Coloured noise, for the smoke test: the brightness of each channel tells the class."""
    generator = torch.Generator().manual_seed(0)
    constant = torch.full((3, 1, 1), 0.5)

    def draw(each: int) -> Images:
        labels = torch.arange(2 * classes).repeat_interleave(each)
        images = torch.randint(0, 128, (len(labels), 3, 32, 32), generator=generator)
        shifts = torch.stack([(labels // 4**c) % 4 for c in range(3)], dim=1) * 40
        return Images((images + shifts[:, :, None, None]).clamp(max=255).byte(), labels, constant, constant)

    return draw(8), draw(4)


def batches(data: Images, size: int, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled batches on ``device``, normalised, with crop and flip."""
    rng = np.random.default_rng(seed)
    augment = Augment(crop_padding=4, flip=True)
    images, labels = data.images.to(device), data.labels.to(device)
    while True:
        order = torch.from_numpy(rng.permutation(len(labels)))
        for index in order.split(size):
            if len(index) < min(size, len(order)):
                continue
            chosen = to_device(index, device)
            yield flip_and_crop(data.normalized(images[chosen]), augment, rng), labels[chosen]
