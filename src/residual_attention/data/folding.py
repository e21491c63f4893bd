"""K folds of a data set: each image is held out once, classes are spread evenly, and what belongs together stays so."""

import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from .randomness import derive_seed


def spread(labels: Sequence[int], units: Sequence[int], folds: int, seed: int) -> np.ndarray:
    """The fold of each image, (N,) from 0: stratified by ``labels``, and no unit is divided (scikit-learn's
    StratifiedGroupKFold)."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedGroupKFold if len(set(units)) < len(units) else StratifiedKFold  # the same, but faster
    splitter = kind(folds, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    found = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # the callers check their classes
        for fold, (_, held) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups=units)):
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
