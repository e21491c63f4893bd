"""Detections over a split, or over image files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..boxes.annotations import Pictures
from ..data.images import ImageError, read_image
from ..devices import device_of
from ..family.modes import evaluating
from .detectors import BaseDetector
from .loading import as_float, at_network_size
from .measures import Detections


def to_original(found: dict[str, Tensor], scaled: Sequence[int], original: Sequence[int]) -> Detections:
    """torchvision's output for an image resized to ``scaled`` (height, width), mapped back to the original."""
    height, width = original
    factors = torch.tensor([width / scaled[1], height / scaled[0]] * 2)
    order = found["scores"].argsort(descending=True, stable=True).cpu()
    boxes = (found["boxes"].float().cpu() * factors).clamp(min=0).minimum(torch.tensor([width, height] * 2))
    return Detections(boxes[order], found["scores"].float().cpu()[order], found["labels"].cpu()[order] - 1)


@torch.no_grad()
def detect_split(
    model: nn.Module,
    samples: Pictures,
    batches: Iterable[tuple[list[Tensor], list[int]]],
    *,
    precision: torch.dtype = torch.float32,
    shared: bool = True,
) -> list[Detections]:
    """Detections for every image of a split, in its order; exact with any number of processes.

    ``shared`` False: this process runs the whole split itself and does not wait for the others.
    """
    found: dict[int, Detections] = {}
    with evaluating(model):
        for images, indices in batches:
            with torch.autocast(images[0].device.type, precision, enabled=precision != torch.float32):
                outputs = model(images)
            for image, index, output in zip(images, indices, outputs, strict=True):
                picture = samples.pictures[index]
                found[index] = to_original(output, image.shape[-2:], (picture.height, picture.width))
    if shared and dist.is_available() and dist.is_initialized():
        everyone: list = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, found)
        found = {index: detections for theirs in everyone for index, detections in theirs.items()}
    return [found[i] for i in range(len(samples))]


@dataclass(frozen=True)
class Found:
    """Detections in one file; boxes in pixels of the image as displayed, highest score first."""

    path: str
    width: int
    height: int
    boxes: list[tuple[str, float, tuple[float, float, float, float]]]

    def to_dict(self) -> dict[str, Any]:
        boxes = [{"class": name, "score": score, "box": [round(v, 2) for v in box]} for name, score, box in self.boxes]
        return {"path": self.path, "width": self.width, "height": self.height, "boxes": boxes}


def detect_files(model: BaseDetector, paths: Sequence[Path], *, threshold: float) -> tuple[list[Found], list[str]]:
    """The boxes with a score of at least ``threshold`` in each readable file, and an error line for each other file."""
    results, errors = [], []
    device = device_of(model)
    for path in paths:
        try:
            image = read_image(path, 3)
        except ImageError as error:
            errors.append(str(error))
            continue
        tensor = as_float(at_network_size(image, model.image_size, model.max_size), device)
        with torch.inference_mode(), evaluating(model):
            output = model([tensor])[0]
        found = to_original(output, tensor.shape[-2:], (image.height, image.width))
        boxes = [
            (model.classes[label], score, tuple(box))
            for box, score, label in zip(
                found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
            )
            if score >= threshold
        ]
        results.append(Found(str(path), image.width, image.height, boxes))
    return results, errors
