"""``ran check``: look over a data set and write what is found as ``check.html`` and ``check.json``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoints import Classifier
from ..data.fingerprints import Families, Pair
from ..errors import UserError
from ..names import printable
from ..own_files import Written, own_folder
from ..stages import Clock, Say, silent
from .copies import find_copies, image_of, overview, pairs_among, sorted_families
from .findings import Findings, Labels, Suspect, Unreadable
from .gather import Gathered, Source, find_source, gather
from .labels import caution, default_network, feature_network, judge, pooled_features, unavailable
from .page import render

PAGE, DOCUMENT = "check.html", "check.json"


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """``out`` is check/<name of the data> if None. ``model`` gives the features that labels are judged by; shipped
    weights that were not trained on the data if None. ``folds``: those of the out-of-sample probabilities."""

    data: str
    data_dir: Path | None = None
    out: Path | None = None
    model: str | None = None
    labels: bool = True
    folds: int = 5
    limit: int | None = None
    seed: int = 0
    device: str = "auto"


def check(options: CheckOptions, say: Say = silent) -> Written[Findings]:
    """Look over DATA and write page and document. Never writes into the data's folder.

    Raises UserError for DATA that cannot be read, an ``out`` within it, or a MODEL without features.
    """
    source = find_source(options.data, options.data_dir, options.limit)
    network, skipped = _network(options, source)
    own = own_folder(options.out, "check", options.data, options.data_dir, (PAGE, DOCUMENT))
    clock, notices = Clock(), list(source.notices)
    total = len(source.entries)
    with clock.stage("reading"):
        gathered = gather(source, network and network.preprocess, lambda done: say("reading", done, total))
    with clock.stage("copies"):
        pairs = pairs_among(gathered.prints, notices)
        families = sorted_families(source, pairs)
        copies = find_copies(source, gathered.prints, families)
    labels = None
    if network is not None:
        try:
            labels = _labels(options, source, gathered, pairs, network, clock, say)
        except UserError as error:
            skipped = str(error)
    findings = Findings(
        data=source.name,
        images=total,
        notices=tuple(notices),
        overview=overview(source, gathered.prints),
        unreadable=_unreadable(source, gathered),
        copies=copies,
        labels=labels,
        labels_skipped=skipped,
        time_s=clock.time_s,
    )
    return own.write_findings(findings, PAGE, render(findings, source, families), DOCUMENT)


def _network(options: CheckOptions, source: Source) -> tuple[Classifier | None, str]:
    """The feature network, or why labels are not checked."""
    if not options.labels:
        return None, "--no-labels"
    if source.several:
        return None, "the images have several labels each"
    if len(source.classes) < 2:
        return None, "there is only one class"
    if reason := unavailable():
        return None, reason
    return feature_network(options.model or default_network(source.name), options.device), ""


def _unreadable(source: Source, gathered: Gathered) -> tuple[Unreadable, ...]:
    found = []
    for entry, one in zip(source.entries, gathered.prints, strict=True):
        if one.error:
            reason = one.error.removeprefix(f"{printable(entry.name)}: ").removeprefix(f"{entry.name}: ")
            found.append(Unreadable(source.shown(entry), reason))
    return tuple(found)


def _labels(
    options: CheckOptions,
    source: Source,
    gathered: Gathered,
    pairs: list[Pair],
    network: Classifier,
    clock: Clock,
    say: Say,
) -> Labels:
    if gathered.inputs is None:
        raise UserError("no image can be read")
    entries, total = [source.entries[i] for i in gathered.read], len(gathered.read)
    with clock.stage("features"):
        features = pooled_features(network, gathered.inputs, lambda done: say("features", done, total))
    with clock.stage("labels"):
        units = _units(source, gathered, pairs)
        given = [entry.label for entry in entries if isinstance(entry.label, int)]
        judged = judge(features, given, units, classes=len(source.classes), folds=options.folds, seed=options.seed)
    best = np.nan_to_num(judged.probabilities, nan=-1).argmax(axis=1)
    name = options.model or default_network(source.name)
    suspects = [
        Suspect(
            image_of(source, entries[row]),
            source.classes[given[row]],
            float(judged.probabilities[row, given[row]]),
            source.classes[best[row]],
            float(judged.probabilities[row, best[row]]),
        )
        for row in judged.suspects
    ]
    return Labels(
        checked=len(judged.checked),
        network=name,
        folds=options.folds,
        accuracy_pct=100 * float(np.mean(best[judged.checked] == np.asarray(given)[judged.checked])),
        caution=caution(source.name, name),
        left_out=tuple(source.classes[label] for label in judged.left_out),
        suspects=tuple(suspects),
    )


def _units(source: Source, gathered: Gathered, pairs: list[Pair]) -> list[int]:
    """A number for each image that was read; copies and images of a group share one."""
    families, first = Families().join(pairs), {}
    for i in gathered.read:
        if group := source.entries[i].group:
            families.join([Pair(first.setdefault(group, i), i, True)])
    return [families.of(i) for i in gathered.read]
