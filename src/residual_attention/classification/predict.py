"""Predictions for image files, with the preprocessing used in training."""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..checkpoints import Classifier, load
from ..data.images import ImageError, read_image
from ..data.preprocess import Preprocess
from ..devices import device_of, resolve_device, usable_cores
from ..errors import UserError
from .views import Views, class_probabilities

UNSURE, NO_LABEL = "unsure", "none"
DECODERS = min(4, usable_cores())
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Prediction:
    """``top``: class names with calibrated probabilities, the most probable first.

    ``unsure``: whether the probability is below the threshold that was asked for; None without one. ``unlike``: whether
    the image is unlike the training images; None if the model does not record how to tell. ``labels``: of a multi-label
    classifier, those that reach their thresholds, however many; None for a classifier with one class per image.
    """

    path: str
    top: list[tuple[str, float]]
    unsure: bool | None = None
    unlike: bool | None = None
    labels: list[tuple[str, float]] | None = None

    @property
    def answer(self) -> str:
        if self.labels is not None:
            return ";".join(name for name, _ in self.labels) or NO_LABEL
        return UNSURE if self.unsure else self.top[0][0]

    def to_dict(self) -> dict[str, Any]:
        top = [{"class": other, "probability": share} for other, share in self.top]
        if self.labels is not None:
            given = [{"class": name, "probability": share} for name, share in self.labels]
            return {"path": self.path, "labels": given, "top": top}
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


def _read(path: Path, preprocess: Preprocess) -> torch.Tensor | Unread:
    try:
        return preprocess(read_image(path, preprocess.in_chans))
    except ImageError as error:
        return Unread(path, str(error))


def _batches(
    paths: Sequence[Path], preprocess: Preprocess, batch_size: int, unread: list[Unread]
) -> Iterator[tuple[list[Path], torch.Tensor]]:
    """The readable files and their images, in order. Threads decode the next batches meanwhile; Pillow's C code runs
    beside the network's."""
    with warnings.catch_warnings(), ThreadPoolExecutor(DECODERS) as pool:
        warnings.simplefilter("ignore")  # as `read_image` does; threads would restore each other's filters
        parts = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
        waiting: deque[list[Future[torch.Tensor | Unread]]] = deque()
        for i, part in enumerate(parts):
            for ahead in parts[i + len(waiting) : i + 1 + BATCHES_AHEAD]:
                waiting.append([pool.submit(_read, path, preprocess) for path in ahead])
            found = list(zip(part, (future.result() for future in waiting.popleft()), strict=True))
            unread += [image for _, image in found if isinstance(image, Unread)]
            good = [(path, image) for path, image in found if isinstance(image, torch.Tensor)]
            if good:
                yield [path for path, _ in good], torch.stack([image for _, image in good])


def unlike_training(model: Classifier, alike: torch.Tensor | None, count: int) -> list[bool] | list[None]:
    """For each of ``count`` images, whether its likeness is below what 95 % of the validation images reach."""
    least = model.card.confidence.least_likeness
    if alike is None or least is None:
        return [None] * count
    return (alike < least).tolist()


def answers(
    model: Classifier,
    probabilities: torch.Tensor,
    alike: torch.Tensor | None,
    *,
    paths: Sequence[str],
    top_k: int = 5,
    least: float | None = None,
) -> list[Prediction]:
    """Predictions from calibrated probabilities (B, K) and the images' likeness (B,); ``least`` as `predict`."""
    probabilities = probabilities.cpu()
    confidence = model.card.confidence
    top = min(top_k, len(model.classes))
    given = confidence.given(probabilities, least) if confidence.several else None
    best = probabilities.topk(top if given is None else len(model.classes), dim=1)
    found = []
    unlike = unlike_training(model, alike, len(paths))
    for i, (path, shares, indices) in enumerate(zip(paths, best.values.tolist(), best.indices.tolist(), strict=True)):
        ranked = [(model.classes[index], share) for index, share in zip(indices, shares, strict=True)]
        labels = None if given is None else [pair for pair, k in zip(ranked, indices, strict=True) if given[i, k]]
        unsure = None if least is None or given is not None else ranked[0][1] < least
        found.append(Prediction(path, ranked[:top], unsure, unlike[i], labels))
    return found


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
    probability is unsure; a multi-label classifier gives every label from there on.
    """
    if not isinstance(model, torch.nn.Module):
        model = load(model, resolve_device(device))
    place = device_of(model)
    predictions: list[Prediction] = []
    unread: list[Unread] = []
    for good, images in _batches(paths, model.preprocess, batch_size, unread):
        images = images.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        probabilities, alike = class_probabilities(model, images, views)
        if not probabilities.isfinite().all():
            raise UserError(f"{good[0]}: the model's answer is not finite; its weights or this image are at fault")
        predictions += answers(model, probabilities, alike, paths=list(map(str, good)), top_k=top_k, least=least)
    return predictions, unread
