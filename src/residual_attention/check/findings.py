"""What a check finds, as it is written to ``check.json``."""

import json
from dataclasses import asdict, dataclass

from ..documents import rounded


@dataclass(frozen=True)
class Image:
    """An image of the data. ``path``: relative to the data's folder, or split and position of an embedded data set."""

    path: str
    split: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Unreadable:
    path: str
    reason: str


@dataclass(frozen=True)
class Family:
    """Images that are copies of one another. ``exact``: all bytes are the same; ``across_splits``: they lie in several
    splits; ``classes_differ``: not all of them have the same class."""

    images: tuple[Image, ...]
    exact: bool
    across_splits: bool
    classes_differ: bool


@dataclass(frozen=True, kw_only=True)
class Copies:
    """``exact``, ``near``: images that are copies of an earlier one; ``held_out_in_training``: images of val or test
    with a copy in train; ``classes_differ``: families of several classes."""

    exact: int
    near: int
    held_out_in_training: int
    classes_differ: int
    families: tuple[Family, ...]


@dataclass(frozen=True)
class Suspect:
    """``probability``: of the given class, out of sample; ``likely``: the class with the highest one."""

    image: Image
    given: str
    probability: float
    likely: str
    likely_probability: float


@dataclass(frozen=True, kw_only=True)
class Labels:
    """``accuracy_pct``: how often the out-of-sample classifier agrees with the given labels. ``network``: whose
    features it reads; ``caution``: why they may be too kind. ``left_out``: classes with too few images."""

    checked: int
    network: str
    folds: int
    accuracy_pct: float
    caution: str
    left_out: tuple[str, ...]
    suspects: tuple[Suspect, ...]


@dataclass(frozen=True)
class Sizes:
    """Width and height of the images in px: smallest and largest by area, the median of each, and how many differ."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    distinct: int


@dataclass(frozen=True, kw_only=True)
class Overview:
    """``counts``: images of each class in each split. ``channels``: images of each Pillow mode. ``tiny``: classes below
    the number of training images from which a run no longer warns. ``blank``: images of one colour."""

    counts: dict[str, dict[str, int]]
    sizes: Sizes | None
    channels: dict[str, int]
    tiny: dict[str, int]
    blank: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """``labels`` is None if they were not checked, and ``labels_skipped`` says why. ``time_s`` is by stage."""

    data: str
    images: int
    notices: tuple[str, ...]
    overview: Overview
    unreadable: tuple[Unreadable, ...]
    copies: Copies
    labels: Labels | None
    labels_skipped: str
    time_s: dict[str, float]

    def to_json(self) -> str:
        return json.dumps(rounded(asdict(self)), indent=1)
