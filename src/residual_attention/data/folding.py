"""K folds of a data set: each image is held out once, classes are spread evenly, and what belongs together stays so."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from ..errors import UserError
from .randomness import derive_seed
from .request import DataRequest
from .samples import Samples, joined

FOLDS_NEED = "--folds needs data with one class per image"


def spread(labels: Sequence[int], units: Sequence[int], folds: int, seed: int) -> np.ndarray:
    """The fold of each image, (N,) from 0: stratified by ``labels``, and no unit is divided (scikit-learn's
    StratifiedGroupKFold)."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    number: dict[int, int] = {}
    groups = [number.setdefault(unit, len(number)) for unit in units]  # by appearance: their numbers mean nothing
    divided = len(number) < len(units)
    kind = StratifiedGroupKFold if divided else StratifiedKFold  # the same, but faster
    splitter = kind(folds, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    found = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # the callers check their classes
        for fold, (_, held) in enumerate(
            splitter.split(np.zeros(len(labels)), labels, groups=groups if divided else None)
        ):
            found[held] = fold
    return found


def fold_of(labels: Sequence[int], units: Sequence[int], classes: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """`spread`, for training. Raises UserError for a class with fewer units than folds."""
    of_class: dict[int, set[int]] = {}
    for label, unit in zip(labels, units, strict=True):
        of_class.setdefault(label, set()).add(unit)
    if not of_class:
        raise UserError("--folds: there are no images to divide")
    smallest = min(of_class, key=lambda label: len(of_class[label]))
    if (count := len(of_class[smallest])) < folds:
        raise UserError(
            f"--folds {folds}: the class {classes[smallest]} has only {count} images that can be separated "
            "(copies and groups stay together); take fewer folds or add images"
        )
    return spread(labels, units, folds, seed)


def fold_notices(fold: int, folds: int, held: int, whole: int, untouched: int) -> list[str]:
    """What the fold is, and that a given test split is left out."""
    notices = [f"fold {fold} of {folds}: {held} of {whole} training images are its test split"]
    if untouched:
        notices.append(f"the {untouched} images of the existing test split are left untouched")
    return notices


def fold_out(
    train: Samples, val: Samples | None, test: Samples | None, request: DataRequest, notices: list[str]
) -> tuple[Samples, None, Samples]:
    """Of the training and validation images, all but the fold, and the fold."""
    assert request.fold is not None
    assert request.folds is not None
    fold, folds = request.fold, request.folds
    everything = joined(train, val)
    if everything.labels.ndim == 2:
        raise UserError(FOLDS_NEED)
    labels = everything.labels.tolist()
    names = [str(label) for label in range(max(labels, default=0) + 1)]
    held = torch.from_numpy(fold_of(labels, range(len(labels)), names, folds, request.seed) == fold - 1)
    notices += fold_notices(fold, folds, int(held.sum()), len(labels), 0 if test is None else len(test))
    return everything.subset((~held).nonzero().flatten()), None, everything.subset(held.nonzero().flatten())
