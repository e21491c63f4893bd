"""Unreadable images: found before training, left out or refused, and named."""

import torch

from ..errors import UserError
from ..names import counted
from .preprocess import Preprocess
from .samples import Samples, TensorSamples, readable

FEW_IMAGES = 20  # of a class, below which a run warns
MAX_CHECKED = 20_000  # held-out files decoded before training to find bad ones; larger sets are not checked


def check_files(samples: Samples | None, preprocess: Preprocess, *, skip_bad: bool) -> tuple[Samples | None, list[str]]:
    """Decode held-out files once before training, so a bad file does not stop the run hours later.

    Returns the readable samples and the error messages of the others. Raises ImageError unless ``skip_bad``.
    """
    if samples is None or isinstance(samples, TensorSamples) or len(samples) > MAX_CHECKED:
        return samples, []
    errors: list[str] = []
    good = [i for i, _ in readable(samples, preprocess, errors, skip_bad=skip_bad)]
    return (samples.subset(torch.tensor(good, dtype=torch.int64)) if errors else samples), errors


def unreadable_notice(errors: list[str]) -> str:
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return f"left out {counted(len(errors), 'unreadable training image')}: {'; '.join(errors[:3])}{more}"


def none_readable(count: int) -> UserError:
    """For a batch of ``count`` training images without one that can be read."""
    return UserError(f"none of the {count} images of a batch could be read; check the data folder")


def check_classes(train: Samples, classes: list[str], name: str, skipped: int) -> None:
    """Raise UserError for a class without a training image: none of its images could be read, or all are held out."""
    several = train.labels.ndim == 2
    counts = (train.labels.sum(dim=0) if several else torch.bincount(train.labels, minlength=len(classes))).tolist()
    if empty := [each for each, count in zip(classes, counts, strict=True) if not count]:
        why = f"; {skipped} images could not be read" if skipped else ""
        raise UserError(f"{name}: no training image of {', '.join(empty[:3])} is left{why}")
