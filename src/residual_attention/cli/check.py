"""``ran check DATA``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..errors import UserError
from ..names import printable
from .arguments import parse
from .findings import StageProgress, print_json, print_summary

if TYPE_CHECKING:
    from ..check.findings import Findings

DESCRIPTION = """Check a data set before training: unreadable images, exact and near copies within and across splits,
suspect labels, class counts, sizes and channels.

DATA is a folder of class folders, a list (CSV or text), digits, cifar10 or cifar100. Writes a page with thumbnails and
a JSON document; nothing in DATA is changed."""

MOST_FOLDS = 20


@dataclass(frozen=True)
class CheckArguments:
    data: tyro.conf.Positional[str]
    """A folder of class folders, with or without train/val/test, a list of images, or a named data set."""
    out: Path | None = None
    """Folder for check.html and check.json; check/<name of DATA> by default."""
    labels: bool = True
    """Check the labels too, which takes most of the time; needs pip install 'residual-attention[check]'."""
    model: str | None = None
    """MODEL whose features judge the labels, ideally one that has never seen these images. By default, weights that
    ship: attention56_cifar.cifar100 (attention56_cifar.cifar10 for cifar100)."""
    folds: int = 5
    """Cross-validation folds for the out-of-sample probabilities."""
    limit: int | None = None
    """Check only this many images, evenly spaced over DATA; all by default."""
    data_dir: Path | None = None
    """Folder of a named data set."""
    seed: int = 0
    """Seed of the folds."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    json: bool = False
    """Print the JSON document instead of a summary, and nothing else to standard output."""
    debug: bool = False
    """Show tracebacks."""


def summary(findings: "Findings") -> list[str]:
    """The findings as a few aligned lines."""
    copies, labels, overview = findings.copies, findings.labels, findings.overview
    where = (
        "" if len(overview.counts) < 2 else f"; {copies.held_out_in_training:,} held-out images have one in training"
    )
    differ = f"; {copies.classes_differ:,} sets of several classes" if copies.classes_differ else ""
    sizes = overview.sizes
    if labels is None:
        suspect = f"not checked: {findings.labels_skipped}"
    else:
        agreement = f"out of sample, {labels.accuracy_pct:.1f} % of the labels are confirmed"
        suspect = f"{len(labels.suspects):,} of {labels.checked:,} ({agreement})"
    tiny = ", ".join(f"{name} ({count})" for name, count in list(overview.tiny.items())[:5])
    more = f" and {len(overview.tiny) - 5} more" if len(overview.tiny) > 5 else ""
    rows = [
        ("unreadable", f"{len(findings.unreadable):,}"),
        ("copies", f"{copies.exact:,} exact, {copies.near:,} near{where}{differ}"),
        ("suspect labels", suspect),
        ("tiny classes", f"{tiny}{more}" if tiny else "none"),
    ]
    if overview.blank:
        rows.append(("one colour", f"{len(overview.blank):,}"))
    if sizes is not None:
        (w0, h0), (w1, h1) = sizes.smallest, sizes.largest
        same = f"{w0}x{h0} px" if sizes.distinct == 1 else f"{w0}x{h0} to {w1}x{h1} px"
        modes = {"1-bit" if mode == "1" else mode: count for mode, count in overview.channels.items()}
        channels = ", ".join(f"{count:,} {mode}" for mode, count in modes.items())
        rows.append(("images", f"{same}; {channels}"))
    rows.append(("time", f"{sum(findings.time_s.values()):.0f} s"))
    return [f"{name:<16}{printable(text)}" for name, text in rows]


def main(argv: list[str]) -> int:
    given = parse(CheckArguments, argv, prog="ran check", description=DESCRIPTION)
    if not 2 <= given.folds <= MOST_FOLDS:
        raise UserError(f"folds must be between 2 and {MOST_FOLDS}, not {given.folds}")
    if given.limit is not None and given.limit < 1:
        raise UserError(f"limit must be at least 1, not {given.limit}")
    from ..check.look import CheckOptions, check

    options = CheckOptions(
        data=given.data,
        data_dir=given.data_dir,
        out=given.out,
        model=given.model,
        labels=given.labels,
        folds=given.folds,
        limit=given.limit,
        seed=given.seed,
        device=given.device,
    )
    done = check(options, StageProgress())
    found = done.findings
    if given.json:
        print_json(done)
        return 0
    splits = ", ".join(f"{sum(of.values()):,} {split}" for split, of in found.overview.counts.items() if split != "all")
    classes = len(next(iter(found.overview.counts.values()), {}))
    head = f"{printable(found.data)}: {found.images:,} images of {classes:,} classes"
    print_summary(done, found.notices, [f"{head} ({splits})" if splits else head, *summary(found)])
    return 0
