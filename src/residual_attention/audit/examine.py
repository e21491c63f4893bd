"""The examination of a classifier on images: evidence, groups and suspicions of each class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints import Classifier
from ..errors import UserError
from ..stages import Clock, Say, silent
from .clusters import EXAMPLES, Group, grouped
from .evidence import Evidence, border_of_uniform, border_share, collect, percent, same_place
from .findings import ClassEvidence, Cluster, Findings, Suspicion
from .gather import Gathered
from .sameness import Sameness
from .spots import Spot
from .suspects import COLOURS_THRESHOLD, THRESHOLD, suspicions_of
from .transplants import Prober

LEAST_IMAGES = 10  # of a class; fewer say nothing about it


@dataclass(frozen=True)
class Examined:
    """The findings, and what the page draws of them: the maps, each suspicion's spot, each class's groups."""

    model: Classifier
    findings: Findings
    gathered: Gathered
    evidence: Evidence
    spots: list[Spot]
    groups: dict[str, list[Group]]


def examine(
    model: Classifier,
    gathered: Gathered,
    *,
    data: str,
    name: str,
    chosen: list[int] | None = None,
    seed: int = 0,
    clock: Clock | None = None,
    say: Say = silent,
) -> Examined:
    """Evidence, groups and suspicions of the classes ``chosen`` (all by default) that have enough images.

    Raises UserError if fewer than two classes of the images do, or none of those chosen.
    """
    clock = clock or Clock()
    enough, few = _by_count(model, gathered)
    wanted = range(len(model.classes)) if chosen is None else chosen
    audited = [k for k in enough if k in wanted]
    if len(enough) < 2 or not audited:
        raise _too_few(gathered, "each of two classes" if len(enough) < 2 else f"the class {model.classes[wanted[0]]}")
    with clock.stage("evidence"):
        evidence = collect(model, gathered, lambda done: say("evidence", done, len(gathered)))
    suspicions: list[tuple[Spot, Suspicion]] = []
    classes, groups = [], {}
    with clock.stage("tests"):
        prober = Prober(model, gathered, seed)
        sameness = Sameness(gathered.images, gathered.labels, enough)
        for done, label in enumerate(audited):
            name_of = model.classes[label]
            found, tested = suspicions_of(prober, evidence, sameness, label, name_of)
            suspicions += found
            members = (gathered.labels == label).nonzero()[:, 0]
            groups[name_of] = _groups_among(evidence, members, seed)
            classes.append(_class_evidence(gathered, evidence, members, name_of, groups[name_of], tested, seed))
            say("tests", done + 1, len(audited))
    suspicions.sort(key=lambda one: -one[1].pasted.lift.mean)
    findings = Findings(
        data=data,
        model=name,
        images=len(gathered),
        seed=seed,
        threshold_points=THRESHOLD,
        colours_threshold_points=COLOURS_THRESHOLD,
        border_of_uniform_pct=100 * border_of_uniform(),
        notices=tuple(gathered.notices),
        left_out=tuple(model.classes[k] for k in few if k in wanted),
        suspicions=tuple(suspicion for _, suspicion in suspicions),
        classes=tuple(classes),
        time_s=clock.time_s,
    )
    return Examined(model, findings, gathered, evidence, [spot for spot, _ in suspicions], groups)


def _too_few(gathered: Gathered, which: str) -> UserError:
    return UserError(
        f"an audit needs at least {LEAST_IMAGES} images of {which}; found {len(gathered)} images of "
        f"{len(gathered.labels.unique())} classes; give more images, another --split or a higher --limit"
    )


def _by_count(model: Classifier, gathered: Gathered) -> tuple[list[int], list[int]]:
    """The classes with enough images, and those with fewer."""
    counts = torch.bincount(gathered.labels, minlength=len(model.classes)).tolist()
    enough = [k for k, count in enumerate(counts) if count >= LEAST_IMAGES]
    return enough, [k for k in range(len(counts)) if k not in enough]


def _groups_among(evidence: Evidence, members: Tensor, seed: int) -> list[Group]:
    """The groups of some images, with their positions among all."""
    return [
        Group([int(members[i]) for i in group.members], group.centre, group.spread)
        for group in grouped(evidence.features[members], evidence.peaks[members], seed)
    ]


def _class_evidence(
    gathered: Gathered,
    evidence: Evidence,
    members: Tensor,
    name: str,
    groups: list[Group],
    tested: list[Spot],
    seed: int,
) -> ClassEvidence:
    maps, right = evidence.maps[members], evidence.predicted[members] == gathered.labels[members]
    return ClassEvidence(
        label=name,
        images=len(members),
        right_pct=100 * float(right.float().mean()),
        border_pct=percent(border_share(maps), seed),
        outside_boxes_pct=None if evidence.outside is None else percent(evidence.outside[members], seed),
        same_place=same_place(maps),
        tested=tuple(dict.fromkeys(spot.name for spot in tested)),
        clusters=tuple(
            Cluster(
                share_pct=100 * len(group.members) / len(members),
                x=group.centre[0],
                y=group.centre[1],
                spread=group.spread,
                images=tuple(gathered.name(i) for i in group.members[:EXAMPLES]),
            )
            for group in groups
        ),
    )
