"""Predictions for image files, with the preprocessing used in training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..checkpoints import Classifier, load
from ..data.images import ImageError, read_image
from ..data.preprocess import Preprocess
from ..devices import device_of, resolve_device
from .views import Views, class_probabilities

UNSURE = "unsure"


@dataclass(frozen=True)
class Prediction:
    """``top``: class names with calibrated probabilities, the most probable first.

    ``unsure``: whether the probability is below the threshold that was asked for; None without one. ``unlike``: whether
    the image is unlike the training images; None if the model does not record how to tell.
    """

    path: str
    top: list[tuple[str, float]]
    unsure: bool | None = None
    unlike: bool | None = None

    @property
    def answer(self) -> str:
        return UNSURE if self.unsure else self.top[0][0]

    def to_dict(self) -> dict[str, Any]:
        top = [{"class": other, "probability": share} for other, share in self.top]
        flags = {"unsure": self.unsure, "unlike_training": self.unlike}
        return {
            "path": self.path,
            "class": self.answer,
            "probability": self.top[0][1],
            **{name: flag for name, flag in flags.items() if flag is not None},
            "top": top,
        }


class Unread(NamedTuple):
    """A file that is not a readable image; ``reason`` names it."""

    path: Path
    reason: str


def _read_images(
    paths: Sequence[Path], preprocess: Preprocess, unread: list[Unread]
) -> tuple[list[Path], list[torch.Tensor]]:
    good, images = [], []
    for path in paths:
        try:
            images.append(preprocess(read_image(path, preprocess.in_chans)))
            good.append(path)
        except ImageError as error:
            unread.append(Unread(path, str(error)))
    return good, images


def unlike_training(model: Classifier, alike: torch.Tensor | None, count: int) -> list[bool] | list[None]:
    """For each of ``count`` images, whether its likeness is below what 95 % of the validation images reach."""
    least = model.card.confidence.least_likeness
    if alike is None or least is None:
        return [None] * count
    return (alike < least).tolist()


@torch.inference_mode()
def predict(
    model: str | Path | Classifier,
    paths: Sequence[Path],
    *,
    top_k: int = 5,
    batch_size: int = 32,
    device: str = "auto",
    views: Views = "none",
    least: float | None = None,
) -> tuple[list[Prediction], list[Unread]]:
    """Predictions for the readable files, in order, and the files that could not be read.

    ``views``: average the probabilities over several views of each image. ``least``: a prediction of a lower
    probability is unsure.
    """
    if not isinstance(model, torch.nn.Module):
        model = load(model, resolve_device(device))
    place = device_of(model)
    predictions: list[Prediction] = []
    unread: list[Unread] = []
    for start in range(0, len(paths), batch_size):
        good, images = _read_images(paths[start : start + batch_size], model.preprocess, unread)
        if not good:
            continue
        probabilities, alike = class_probabilities(model, torch.stack(images).to(place), views)
        best = probabilities.cpu().topk(min(top_k, len(model.classes)), dim=1)
        unlike = unlike_training(model, alike, len(good))
        rows = zip(good, best.values.tolist(), best.indices.tolist(), unlike, strict=True)
        for path, shares, indices, flag in rows:
            top = [(model.classes[index], share) for index, share in zip(indices, shares, strict=True)]
            unsure = None if least is None else top[0][1] < least
            predictions.append(Prediction(str(path), top, unsure, flag))
    return predictions, unread
