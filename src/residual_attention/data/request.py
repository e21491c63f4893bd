"""What the data layer needs to know about a run: which data, and how to load them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Resize = Literal["crop", "squash", "letterbox"]
SplitRule = Literal["content", "shuffle"]
MAX_IMAGE_SIZE = 4000  # px, the side of the network's square input


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """A data set by name or folder, its preprocessing, and how missing splits are made.

    ``image_size`` (px) and ``in_chans`` (1 or 3) are taken from the data if None. ``val_fraction`` and
    ``test_fraction`` are shares of the training images to hold out if a split is missing; ``seed`` selects them.
    ``limit_train`` and ``label_noise`` (a share) apply to the training split only. ``skip_bad_images`` leaves out
    unreadable training images instead of raising; validation and test splits that are given are never skipped over.

    ``split_rule``: *content* makes missing splits of files by `placement.place`; *shuffle*, the rule of runs before it
    existed and of named data sets, draws them from a permutation.

    ``fold`` of ``folds``, from 1: the training and validation images are divided (`folding.fold_of`), and one part is
    the test split; a test split that is given is left out.
    """

    data: str
    data_dir: Path | None = None
    image_size: int | None = None
    resize: Resize = "crop"
    in_chans: int | None = None
    seed: int = 0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    limit_train: int | None = None
    label_noise: float = 0.0
    skip_bad_images: bool = True
    split_rule: SplitRule = "content"
    folds: int | None = None
    fold: int | None = None


def folding(request: DataRequest) -> tuple[int, int] | None:
    """(fold, folds), from 1, if the test split is to be a fold of the training and validation images."""
    return None if request.folds is None or request.fold is None else (request.fold, request.folds)
