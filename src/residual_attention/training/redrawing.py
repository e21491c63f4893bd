"""The pictures of a finished run, drawn again."""

from pathlib import Path

from ..errors import UserError
from ..names import as_argument
from .page import read_summary
from .results import draw, load_best
from .run import reopen
from .task import TaskEntry


def redraw(run: Path, entry: TaskEntry) -> None:
    """Draw a finished run's pictures again, from its data and its best weights, and rewrite its report.

    What still cannot be drawn is kept in the summary as *undrawn*. Raises UserError if the run is not finished, or its
    data are gone or have changed.
    """
    with reopen(run, entry, json=True) as started:
        if not started.state.progress.finished:
            raise UserError(f"{run} is not finished; continue it with `ran resume {as_argument(run)}`")
        folder = started.writer.folder
        summary = read_summary(run)
        outcome = started.job.task.evaluate(load_best(started.state, folder.best))
        summary.pop("undrawn", None)
        folder.write_summary(summary)
        if failed := draw(started.writer, outcome, summary["steps"], entry):
            folder.write_summary({**summary, "undrawn": failed})
