"""``ran audit``: where a model's evidence lies and which spots alone move its answers, as ``audit.html`` and
``audit.json``."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import write_atomically
from ..attention.batches import check_one_class
from ..attention.masks import attention_modules
from ..checkpoints import Classifier, load
from ..checkpoints.hub import is_hub
from ..checkpoints.load import resolve_model
from ..devices import resolve_device
from ..errors import UserError
from ..hints import did_you_mean
from ..names import printable
from ..own_files import OwnFiles
from .clusters import EXAMPLES, Group, grouped
from .evidence import Evidence, border_of_uniform, border_share, collect, percent, same_place
from .findings import ClassEvidence, Cluster, Findings, Suspicion
from .gather import Gathered, gather
from .page import Drawn, render
from .sameness import Sameness
from .spots import Spot
from .suspects import COLOURS_THRESHOLD, THRESHOLD, suspicions_of
from .transplants import Prober

PAGE, DOCUMENT = "audit.html", "audit.json"
LEAST_IMAGES = 10  # of a class; fewer say nothing about it
Say = Callable[[str, int, int], None]
"""Called with the stage, the images or classes done, and all of them."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """``out`` is audit/<name of the data> if None; ``classes``: those to audit, all if empty."""

    model: str
    data: str
    data_dir: Path | None = None
    split: str = "test"
    boxes: Path | None = None
    classes: tuple[str, ...] = ()
    limit: int = 1000
    out: Path | None = None
    seed: int = 0
    device: str = "auto"


@dataclass
class Clock:
    """Seconds by stage."""

    time_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.time_s[name] = time.perf_counter() - start


@dataclass(frozen=True)
class Examined:
    """The findings, and what the page draws of them: the maps, each suspicion's spot, each class's groups."""

    findings: Findings
    gathered: Gathered
    evidence: Evidence
    spots: list[Spot]
    groups: dict[str, list[Group]]


@dataclass(frozen=True)
class Audited:
    findings: Findings
    page: Path
    document: Path


def silent(_stage: str, _done: int, _total: int) -> None:
    """Say nothing."""


def audit(options: AuditOptions, say: Say = silent) -> Audited:
    """Audit MODEL on DATA and write page and document. Never writes into the data's folder.

    Raises UserError for a MODEL without masks or gradients, DATA that cannot be read or has one class only, an unknown
    class, or an ``out`` within the data's folder.
    """
    model = _model(options)
    own = _own_folder(options)
    chosen = _chosen(options, model)
    clock, notices = Clock(), []
    with clock.stage("reading"):
        gathered = gather(
            model,
            options.data,
            data_dir=options.data_dir,
            split=options.split,
            boxes=options.boxes,
            limit=options.limit,
            say=notices.append,
        )
    found = examine(
        model,
        gathered,
        data=Path(options.data).name or options.data,
        name=options.model,
        chosen=chosen,
        seed=options.seed,
        notices=[notice.removeprefix("note: ") for notice in notices],
        clock=clock,
        say=say,
    )
    page, document = own.take(PAGE), own.take(DOCUMENT)
    drawn = Drawn(found.findings, model, found.gathered, found.evidence, found.spots, found.groups)
    write_atomically(page, render(drawn).encode())
    write_atomically(document, found.findings.to_json().encode())
    return Audited(found.findings, page, document)


def examine(
    model: Classifier,
    gathered: Gathered,
    *,
    data: str,
    name: str,
    chosen: list[int] | None = None,
    seed: int = 0,
    notices: list[str] | None = None,
    clock: Clock | None = None,
    say: Say = silent,
) -> Examined:
    """Evidence, groups and suspicions of the classes ``chosen`` (all by default) that have enough images.

    Raises UserError if fewer than two classes of the images do, or none of those chosen.
    """
    clock = clock or Clock()
    counts = torch.bincount(gathered.labels, minlength=len(model.classes))
    enough = [k for k, count in enumerate(counts.tolist()) if count >= LEAST_IMAGES]
    audited = [k for k in enough if chosen is None or k in chosen]
    if len(enough) < 2 or not audited:
        which = "two classes" if len(enough) < 2 else f"the class {model.classes[(chosen or [0])[0]]}"
        raise UserError(
            f"an audit needs {LEAST_IMAGES} images or more of {which}; give more images or a higher --limit"
        )
    with clock.stage("evidence"):
        evidence = collect(model, gathered, lambda done: say("evidence", done, len(gathered)))
    suspicions: list[tuple[Spot, Suspicion]] = []
    classes, groups = [], {}
    with clock.stage("tests"):
        prober = Prober(model, gathered, seed)
        sameness = Sameness(gathered.images, gathered.labels, enough)
        for done, label in enumerate(audited):
            found, tested = suspicions_of(prober, evidence, sameness, label, model.classes[label])
            suspicions += found
            members = (gathered.labels == label).nonzero()[:, 0]
            of_class = grouped(evidence.features[members], evidence.peaks[members], seed)
            groups[model.classes[label]] = [_among(group, members) for group in of_class]
            classes.append(_class_evidence(evidence, members, label, model, groups[model.classes[label]], tested, seed))
            say("tests", done + 1, len(audited))
    suspicions.sort(key=lambda one: -one[1].pasted.lift.mean)
    few = [k for k, count in enumerate(counts.tolist()) if count < LEAST_IMAGES and (chosen is None or k in chosen)]
    findings = Findings(
        data=data,
        model=name,
        images=len(gathered),
        seed=seed,
        threshold_points=THRESHOLD,
        colours_threshold_points=COLOURS_THRESHOLD,
        border_of_uniform_pct=100 * border_of_uniform(),
        notices=tuple(notices or ()),
        left_out=tuple(model.classes[k] for k in few),
        suspicions=tuple(suspicion for _, suspicion in suspicions),
        classes=tuple(classes),
        time_s=clock.time_s,
    )
    return Examined(findings, gathered, evidence, [spot for spot, _ in suspicions], groups)


def _among(group: Group, members: Tensor) -> Group:
    """The group with the positions of its images among all."""
    return Group([int(members[i]) for i in group.members], group.centre, group.spread)


def _class_evidence(
    evidence: Evidence,
    members: Tensor,
    label: int,
    model: Classifier,
    groups: list[Group],
    tested: list[Spot],
    seed: int,
) -> ClassEvidence:
    maps = evidence.maps[members]
    return ClassEvidence(
        label=model.classes[label],
        images=len(members),
        right_pct=100 * float((evidence.predicted[members] == label).float().mean()),
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
                images=tuple(group.members[:EXAMPLES]),
            )
            for group in groups
        ),
    )


def _model(options: AuditOptions) -> Classifier:
    """Raises UserError for a MODEL that has no gradients, no masks, or gives several labels."""
    if not is_hub(options.model) and resolve_model(options.model).suffix == ".onnx":
        raise UserError(
            f"{printable(options.model)}: an .onnx file has no gradients, which the evidence is read from; "
            "give its run folder or .safetensors"
        )
    model = load(options.model, resolve_device(options.device))
    check_one_class(model, "ran audit")
    if not attention_modules(model):
        raise UserError(f"{printable(options.model)} has no masks to read: it was built with learning=plain")
    return model


def _chosen(options: AuditOptions, model: Classifier) -> list[int] | None:
    for name in options.classes:
        if name not in model.classes:
            hint = did_you_mean(name, model.classes)
            raise UserError(
                f"the model has no class {name!r}{hint}; it has {', '.join(model.classes[:8])}"
                + (", ..." if len(model.classes) > 8 else "")
            )
    return [model.classes.index(name) for name in options.classes] or None


def _own_folder(options: AuditOptions) -> OwnFiles:
    """Raises UserError for an output folder in the data's or with files of others of our names."""
    out = options.out or Path("audit") / re.sub(r"[^\w.-]+", "-", Path(options.data).resolve().name)
    if out.exists() and not out.is_dir():
        raise UserError(f"{printable(out)} is a file; --out must be a folder")
    for data in (Path(options.data), options.data_dir):
        if data is not None and data.is_dir() and out.resolve().is_relative_to(data.resolve()):
            where = f"{printable(out)} is inside the data folder {printable(data)}"
            raise UserError(f"{where}, which is never written to; choose an --out")
    own = OwnFiles(out)
    for name in (PAGE, DOCUMENT):
        own.take(name)
    return own
