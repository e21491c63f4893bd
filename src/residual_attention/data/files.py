"""Image files as the data sets that worker processes read: decoded, and cropped for training."""

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.tv_tensors import Mask

from .images import ImageError
from .preprocess import Preprocess
from .randomness import derive_seed, seeded
from .regions import Regions, region_preprocess
from .samples import StoredSamples
from .strengths import Augment
from .workers import Item


class TrainingFiles(TorchDataset):
    """Decoded, cropped uint8 images; the key is (epoch, sample). An unreadable file returns its error message."""

    def __init__(
        self, samples: StoredSamples, preprocess: Preprocess, seed: int, augment: Augment, regions: Regions | None
    ) -> None:
        self.samples, self.preprocess, self.seed, self.regions = samples, preprocess, seed, regions
        self.transform = file_transform(augment, preprocess)

    def __getitem__(self, key: tuple[int, int]) -> "Item":
        epoch, index = key
        label = self.samples.labels[index]
        try:
            image = self.samples.read(index, self.preprocess.in_chans)
            region = None if self.regions is None else self.regions.drawn(index, image.size)
        except ImageError as error:
            return str(error), label, index
        with seeded(derive_seed(self.seed, "image", epoch, index)):
            return self._transformed(image, region), label, index

    def _transformed(self, image: Image.Image, region: Image.Image | None) -> Tensor:
        """(C, S, S) uint8, with the region as a last channel; it is cropped as the image is, by the same draw."""
        if region is None:
            return self.transform(image)
        if self.preprocess.resize != "crop":
            return torch.cat([self.transform(image), region_preprocess(self.preprocess).to_uint8(region)])
        return torch.cat(self.transform(image, Mask(pil_to_tensor(region))))


def file_transform(augment: Augment, preprocess: Preprocess) -> v2.Compose:
    """Transforms applied to each large image when it is decoded; the others run on the batch.

    ``crop`` takes a random area and aspect ratio (Szegedy et al., 2015); the other modes use the full image.
    """
    size = preprocess.image_size
    geometry = (
        [v2.PILToTensor(), v2.RandomResizedCrop(size, scale=(augment.min_scale, 1.0), antialias=True)]
        if preprocess.resize == "crop"
        else [preprocess.to_uint8]
    )
    strength = augment.color_jitter
    colour = [v2.ColorJitter(strength, strength, strength)] if strength else []
    return v2.Compose([*geometry, *colour])


class EvaluationFiles(TorchDataset):
    """Decoded uint8 images in order; an unreadable file returns its error message."""

    def __init__(self, samples: StoredSamples, preprocess: Preprocess) -> None:
        self.samples, self.preprocess = samples, preprocess

    def __getitem__(self, index: int) -> "Item":
        label = self.samples.labels[index]
        try:
            return self.preprocess.to_uint8(self.samples.read(index, self.preprocess.in_chans)), label, index
        except ImageError as error:
            return str(error), label, index
