"""The table of tasks; train, resume and report a run of any of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoints.card import CLASSIFICATION, DETECTION, read_card
from .classification.config import TrainConfig
from .classification.fold_results import is_folds
from .documents import blaming
from .errors import UserError
from .names import as_argument
from .training import run as core
from .training.config import RunConfig
from .training.page import read_summary
from .training.redrawing import redraw as draw_again
from .training.runfolder import open_run
from .training.task import TaskEntry


def _classification() -> TaskEntry:
    from .classification.task import ENTRY

    return ENTRY


def _detection() -> TaskEntry:
    from .detection.task import ENTRY

    return ENTRY


TASKS: dict[str, Callable[[], TaskEntry]] = {
    CLASSIFICATION: _classification,
    DETECTION: _detection,
}


def _unknown(task: object) -> str:
    return f"no task named {task!r}; this version has {', '.join(TASKS)}"


def task_entry(name: str) -> TaskEntry:
    """The task of that name. Raises UserError for an unknown name."""
    if name not in TASKS:
        raise UserError(_unknown(name))
    return TASKS[name]()


def train(config: RunConfig) -> dict[str, Any]:
    """Train, evaluate and report as configured; returns the run's summary. Raises like `training.run.train`.

    With ``folds`` but no ``fold`` it trains them all, and returns what `classification.folds.train_folds` does.
    """
    if isinstance(config, TrainConfig) and config.folds is not None and config.fold is None:
        from .classification.folds import train_folds

        return train_folds(config)
    for load_entry in TASKS.values():
        if isinstance(config, (entry := load_entry()).config):
            return core.train(config, entry)
    raise TypeError(f"no task takes a {type(config).__name__} as its configuration")


def resume(run: Path, **changes: Any) -> dict[str, Any]:
    """Resume a run of any task, or the folds of one; see `training.run.reopen` for ``changes``."""
    if is_folds(run):
        from .classification.folds import resume_folds

        return resume_folds(run, **changes)
    return core.resume(run, task_entry(read_card(open_run(run).last).task), **changes)


def task_of_run(run: Path) -> str:
    """The task of a finished run. Raises UserError if the folder does not hold one of a task that we know."""
    task = read_summary(run).get("task", CLASSIFICATION)
    if not isinstance(task, str) or task not in TASKS:
        raise UserError(f"{run / 'summary.json'}: {_unknown(task)}")
    return task


def report(run: Path, *, redraw: bool = False) -> Path:
    """Rewrite a finished run's ``report.html`` from the files in its folder.

    With ``redraw``, its pictures are drawn again first, which needs the data. For a folder of folds, the report of all
    of them is rewritten from their summaries.
    """
    if is_folds(run):
        from .classification.folds import report_folds

        return report_folds(run)
    entry = task_entry(task_of_run(run))
    if redraw:
        draw_again(run, entry)
    what = f"{run} cannot be reported, its summary.json, config.yaml or metrics.csv is damaged"
    with blaming(what, f"`ran resume {as_argument(run)}` rewrites them"):
        return entry.report(run)
