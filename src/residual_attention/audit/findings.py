"""What an audit finds, as it is written to ``audit.json``."""

import json
from dataclasses import asdict, dataclass

from ..attention.bootstrap import Interval
from ..documents import rounded


@dataclass(frozen=True, kw_only=True)
class Place:
    """A spot of the square input. ``box``: its rows and columns as (left, top, right, bottom), shares of the side; of a
    frame, its outer edge. ``kind``: patch, strip, frame or colours; colours are the whole image's and have no place."""

    kind: str
    name: str
    box: tuple[float, float, float, float]
    area_pct: float


@dataclass(frozen=True, kw_only=True)
class Pasted:
    """The spot of the class's images pasted into ``images`` images of other classes.

    ``rise``: of the class's probability. ``control_rise``: the same from the strongest control, ``control``.
    ``lift``: the difference, image by image. ``answers_pct``: how many become the class that were not.
    All but ``images`` and ``control`` in percentage points or percent.
    """

    images: int
    rise: Interval
    control: str
    control_rise: Interval
    lift: Interval
    answers_pct: float


@dataclass(frozen=True, kw_only=True)
class Covered:
    """The spot of the class's own images covered with that of other classes. ``drop``: of the class's probability;
    ``control_drop``: with a spot of the same size covered elsewhere (None for colours); in percentage points.
    ``right_before_pct``, ``right_after_pct``: images that the network gets right."""

    images: int
    drop: Interval
    control_drop: Interval | None
    right_before_pct: float
    right_after_pct: float


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A shortcut that the class may have.

    ``evidence_pct``: the share of the class's evidence in the spot, ``evidence_elsewhere_pct`` that of other classes'
    evidence; None for colours. ``sameness``: how much less the spot varies among the class's images than among others
    (1: the same, 5: a fifth).
    """

    label: str
    place: Place
    evidence_pct: float | None
    evidence_elsewhere_pct: float | None
    sameness: float
    pasted: Pasted
    covered: Covered


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Images whose strongest evidence looks alike. ``share_pct``: of the class's images; ``x``, ``y``: the mean place
    of the peak, shares of the side; ``spread``: its standard deviation."""

    share_pct: float
    x: float
    y: float
    spread: float
    images: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ClassEvidence:
    """Where the evidence for a class lies, over its images.

    ``border_pct``: in the outer eighth of the input; ``outside_boxes_pct``: outside the boxes, None if unknown.
    ``same_place``: mean correlation of an image's map with the mean map of the class's other images, 0 to 1.
    ``tested``: the spots whose effect was measured.
    """

    label: str
    images: int
    right_pct: float
    border_pct: Interval
    outside_boxes_pct: Interval | None
    same_place: float
    tested: tuple[str, ...]
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an audit found.

    ``suspicions``: the strongest first. ``threshold_points``: what the whole interval of a suspected spot's lift lies
    above, ``colours_threshold_points`` that of colours. ``border_of_uniform_pct``: the border's share of the area.
    ``left_out``: classes with too few images.
    """

    data: str
    model: str
    images: int
    seed: int
    threshold_points: float
    colours_threshold_points: float
    border_of_uniform_pct: float
    notices: tuple[str, ...]
    left_out: tuple[str, ...]
    suspicions: tuple[Suspicion, ...]
    classes: tuple[ClassEvidence, ...]
    time_s: dict[str, float]

    def to_json(self) -> str:
        return json.dumps(rounded(asdict(self)), indent=1)
