"""``ran report RUN...``."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import UserError
from .arguments import parse, print_error

DESCRIPTION = """Rewrite a run's HTML report from the files in its folder, or compare several runs on one page. Pages
are self-contained: they can be mailed and opened offline."""


@dataclass(frozen=True)
class ReportArguments:
    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders."""
    out: Path | None = None
    """File for the comparison of several runs; comparison.html by default."""
    redraw: bool = False
    """Draw the pictures again from the run's data and best weights; done anyway if some could not be drawn."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


def _report(run: Path, *, redraw: bool) -> Path:
    """The report of one run; missing pictures are drawn if the data are there."""
    from ..classification.fold_results import is_folds
    from ..tasks import report
    from ..training.page import read_summary

    if not redraw and not is_folds(run) and read_summary(run).get("undrawn"):
        try:
            return report(run, redraw=True)
        except UserError as error:
            print_error(f"pictures are missing and cannot be drawn: {error}")
    return report(run, redraw=redraw)


def main(argv: list[str]) -> int:
    given = parse(ReportArguments, argv, prog="ran report", description=DESCRIPTION)
    if not given.runs:
        raise UserError("no run given; see `ran report --help`")
    if given.redraw and len(given.runs) > 1:
        raise UserError("--redraw takes one run")
    if given.out is not None and len(given.runs) == 1:
        raise UserError("--out needs several runs; a single run's report is in its folder")
    if given.out is not None and given.out.is_dir():
        raise UserError(f"{given.out} is a folder; --out must be a file")
    from ..checkpoints.card import CLASSIFICATION
    from ..classification.report import write_comparison
    from ..tasks import task_of_run

    if len(given.runs) == 1:
        page = _report(given.runs[0], redraw=given.redraw)
    elif any(task_of_run(run) != CLASSIFICATION for run in given.runs):
        raise UserError("detectors cannot be compared on one page; give one run, or classifiers only")
    else:
        page = write_comparison(given.runs, given.out or Path("comparison.html"))
    print(json.dumps({"report": str(page)}) if given.json else page)
    return 0
