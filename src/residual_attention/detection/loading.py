"""Batches of images with boxes for training and evaluation.

The order of an epoch is a function of (seed, epoch), and the augmentation of an image a function of (seed, epoch,
image): a run can stop after any step and continue with any number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from ..boxes.annotations import Pictures
from ..data.images import ImageError
from ..data.order import Replica, batch_indices, epoch_order, steps_per_epoch
from ..data.randomness import derive_seed, seeded
from ..data.readable import none_readable
from ..data.workers import FileLoader, prepare_worker

Target = dict[str, Tensor]
_Item = tuple[Tensor | str, Target, int]  # uint8 image or why it could not be read, boxes and labels, index


@dataclass(frozen=True)
class DetectionBatch:
    """``images``: B of (3, h, w) float32 in [0, 1]; ``targets``: boxes (N, 4) in pixels of it, labels (N,) from 1."""

    images: list[Tensor]
    targets: list[Target]

    def __len__(self) -> int:
        return len(self.images)

    def parts(self, count: int) -> list["DetectionBatch"]:
        """``count`` parts of about equal size, or fewer if there are fewer images."""
        size = -(-len(self) // count)
        starts = range(0, len(self), size)
        return [DetectionBatch(self.images[i : i + size], self.targets[i : i + size]) for i in starts]


def scaled_size(width: int, height: int, short: int, longest: int) -> tuple[int, int]:
    """(height, width) with the short side ``short`` px, or the long side ``longest`` where that makes it smaller."""
    factor = min(short / min(width, height), longest / max(width, height))
    return max(1, round(height * factor)), max(1, round(width * factor))


@dataclass(frozen=True, kw_only=True)
class DetectionAugment:
    """The random augmentation of each training image; boxes follow the image."""

    image_size: int
    max_size: int
    flip: bool = True
    vertical_flip: bool = False
    scale_jitter: float = 0.0
    color_jitter: float = 0.0
    iou_crop: float = 0.0

    def _geometry(self) -> list[v2.Transform]:
        steps: list[v2.Transform] = []
        if self.iou_crop:
            steps.append(v2.RandomApply([v2.RandomIoUCrop()], p=self.iou_crop))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.vertical_flip:
            steps.append(v2.RandomVerticalFlip())
        return steps

    def __call__(self, image: Image.Image, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (3, h, w), boxes (M, 4) of positive size, labels (M,); M may be smaller than the input's."""
        canvas = (image.height, image.width)
        picture = tv_tensors.Image(transform.pil_to_tensor(image))
        sample = {
            "image": picture,
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas),  # type: ignore[call-arg]
            "labels": labels,
        }
        strength = self.color_jitter
        colour = [v2.ColorJitter(strength, strength, strength, 0.1 * strength)] if strength else []
        drawn = 1.0 + self.scale_jitter * (2.0 * torch.rand(()).item() - 1.0)
        sample = v2.Compose([v2.Identity(), *self._geometry(), *colour])(sample)
        height, width = sample["image"].shape[-2:]
        size = scaled_size(width, height, round(self.image_size * drawn), round(self.max_size * drawn))
        sample = v2.Compose([v2.Resize(size, antialias=True), v2.SanitizeBoundingBoxes(min_size=1.0)])(sample)
        return sample["image"].as_subclass(Tensor), sample["boxes"].as_subclass(Tensor).float(), sample["labels"]


class _TrainingImages(TorchDataset):
    """Augmented images by (epoch, index)."""

    def __init__(self, samples: Pictures, augment: DetectionAugment, seed: int) -> None:
        self.samples, self.augment, self.seed = samples, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> _Item:
        epoch, index = key
        boxes, labels, ignored = self.samples.truth(index)
        try:
            image = self.samples.read(index)
        except ImageError as error:
            return str(error), {}, index
        with seeded(derive_seed(self.seed, "image", epoch, index)):
            picture, boxes, labels = self.augment(image, boxes[~ignored], labels[~ignored])
        return picture, {"boxes": boxes, "labels": labels + 1}, index


class _EvaluationImages(TorchDataset):
    """Images at the network's input size, in order. Raises ImageError: evaluation skips nothing."""

    def __init__(self, samples: Pictures, image_size: int, max_size: int) -> None:
        self.samples, self.image_size, self.max_size = samples, image_size, max_size

    def __getitem__(self, index: int) -> _Item:
        try:
            image = self.samples.read(index)
        except ImageError as error:
            return str(error), {}, index
        return at_network_size(image, self.image_size, self.max_size), {}, index


def at_network_size(image: Image.Image, image_size: int, max_size: int) -> Tensor:
    """(3, h, w) uint8, resized with Pillow's antialiased bilinear filter."""
    height, width = scaled_size(image.width, image.height, image_size, max_size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return transform.pil_to_tensor(image)


def as_float(image: Tensor, device: torch.device) -> Tensor:
    """uint8 to float32 in [0, 1] on the device; torchvision's detectors normalise internally."""
    return image.to(device, non_blocking=True).float() / 255


def _loader(items: TorchDataset, keys: list, workers: int) -> FileLoader:
    return FileLoader(
        items,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=prepare_worker,
        prefetch_factor=2 if workers else None,
    )


@dataclass(kw_only=True)
class DetectionData:
    """The training split as batches; ``skipped`` collects the indices of images that became unreadable."""

    samples: Pictures
    augment: DetectionAugment
    batch_size: int
    seed: int
    device: torch.device
    repeats: int = 1
    workers: int = 0
    replica: Replica = field(default_factory=Replica)
    skipped: set[int] = field(default_factory=set)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.repeats * len(self.samples), self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[DetectionBatch]:
        """The batches of an epoch from ``first_step`` on."""
        rounds = range(epoch * self.repeats, (epoch + 1) * self.repeats)
        nobody = torch.zeros(len(self.samples), dtype=torch.int64)
        order = torch.cat(
            [
                torch.stack([torch.full_like(nobody, number), epoch_order(nobody, seed=self.seed, epoch=number)], dim=1)
                for number in rounds
            ]
        )
        steps = range(first_step, self.steps_per_epoch)
        parts = [batch_indices(order, self.batch_size, step, self.replica) for step in steps]
        keys = [[tuple(key) for key in part.tolist()] for part in parts]
        for items in _loader(_TrainingImages(self.samples, self.augment, self.seed), keys, self.workers):
            self.skipped.update(index for image, _, index in items if isinstance(image, str))
            good = [(image, target) for image, target, _ in items if isinstance(image, Tensor)]
            if not good:
                raise none_readable(len(items))
            yield DetectionBatch(
                [as_float(image, self.device) for image, _ in good],
                [{name: value.to(self.device) for name, value in target.items()} for _, target in good],
            )


def evaluation_images(
    samples: Pictures,
    *,
    image_size: int,
    max_size: int,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    replica: Replica | None = None,
) -> Iterator[tuple[list[Tensor], list[int]]]:
    """Images of this process's share of a split, with their indices; all images of a batch have the same size.

    The figures therefore depend neither on the batch size nor on the number of processes. An unreadable image raises
    ImageError.
    """
    replica = replica or Replica()
    mine = range(len(samples))[replica.rank :: replica.world]
    alike: dict[tuple[int, int], list[int]] = {}  # a batch is padded to its largest image, which affects the others
    for i in mine:
        picture = samples.pictures[i]
        alike.setdefault(scaled_size(picture.width, picture.height, image_size, max_size), []).append(i)
    keys = [same[i : i + batch_size] for same in alike.values() for i in range(0, len(same), batch_size)]
    for items in _loader(_EvaluationImages(samples, image_size, max_size), keys, workers):
        for image, _, _ in items:
            if isinstance(image, str):
                raise ImageError(image)
        yield [as_float(image, device) for image, _, _ in items], [index for _, _, index in items]
