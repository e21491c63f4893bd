"""Predictions for image files, with the preprocessing used in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import Classifier, load
from ..data.images import ImageError, read_image
from ..data.preprocess import Preprocess
from ..devices import device_of, resolve_device


@dataclass(frozen=True)
class Prediction:
    """``top``: class names with probabilities, the most probable first."""

    path: str
    top: list[tuple[str, float]]

    def to_dict(self) -> dict[str, Any]:
        name, probability = self.top[0]
        top = [{"class": other, "probability": share} for other, share in self.top]
        return {"path": self.path, "class": name, "probability": probability, "top": top}


def _read_images(
    paths: Sequence[Path], preprocess: Preprocess, errors: list[str]
) -> tuple[list[Path], list[torch.Tensor]]:
    good, images = [], []
    for path in paths:
        try:
            images.append(preprocess(read_image(path, preprocess.in_chans)))
            good.append(path)
        except ImageError as error:
            errors.append(str(error))
    return good, images


@torch.inference_mode()
def predict(
    model: str | Path | Classifier,
    paths: Sequence[Path],
    *,
    top_k: int = 5,
    batch_size: int = 32,
    device: str = "auto",
) -> tuple[list[Prediction], list[str]]:
    """Predictions for the readable files, in order, and one error line for each of the others."""
    if not isinstance(model, torch.nn.Module):
        model = load(model, resolve_device(device))
    place = device_of(model)
    predictions: list[Prediction] = []
    errors: list[str] = []
    for start in range(0, len(paths), batch_size):
        good, images = _read_images(paths[start : start + batch_size], model.preprocess, errors)
        if not good:
            continue
        probabilities = model(torch.stack(images).to(place)).float().softmax(dim=1).cpu()
        best = probabilities.topk(min(top_k, len(model.classes)), dim=1)
        for path, shares, indices in zip(good, best.values.tolist(), best.indices.tolist(), strict=True):
            top = [(model.classes[index], share) for index, share in zip(indices, shares, strict=True)]
            predictions.append(Prediction(str(path), top))
    return predictions, errors
