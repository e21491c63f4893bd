"""What the finished runs of a cross-validation found, each by itself and together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.card import CLASSIFICATION
from ..training.page import read_summary
from ..training.runfolder import RunFolder
from .config import TrainConfig
from .interval import student_half_width, wilson_interval_pct

STATE = "folds.json"


@dataclass(frozen=True)
class Fold:
    """A finished run's figures on its fold."""

    fold: int
    run: str
    images: int
    error_pct: float
    balanced_error_pct: float
    loss: float
    best_epoch: int | None
    time_s: float


@dataclass(frozen=True, kw_only=True)
class Together:
    """``mean_error_pct``, ``std_error_pct`` (n - 1) and ``mean_interval_pct`` (95 %, Student's t) are over the folds;
    the training sets overlap, so the interval is approximate. ``pooled_error_pct`` with its Wilson interval,
    ``confusion`` (rows true, columns predicted) and ``per_class`` are over all images, each predicted once, by the run
    that had not seen it."""

    mean_error_pct: float
    std_error_pct: float | None
    mean_interval_pct: tuple[float, float] | None
    pooled_error_pct: float
    pooled_interval_pct: tuple[float, float]
    images: int
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Folds:
    """``folds.json``. ``together`` covers the runs that are finished, None without any."""

    task: str
    folds: int
    config: Mapping[str, Any]
    runs: tuple[Fold, ...]
    together: Together | None


def is_folds(folder: Path) -> bool:
    return (folder / STATE).is_file()


def run_of(folder: Path, number: int) -> Path:
    return folder / f"fold{number}"


def is_done(run: Path) -> bool:
    """The summary is written before the pictures, and the report after them."""
    folder = RunFolder(run)
    return folder.summary.is_file() and folder.report.is_file()


def collected(folder: Path, config: TrainConfig) -> Folds:
    """What the finished runs found. Raises UserError for a damaged summary."""
    assert config.folds is not None
    numbers = range(1, config.folds + 1)
    summaries = {number: read_summary(run_of(folder, number)) for number in numbers if is_done(run_of(folder, number))}
    runs = tuple(
        Fold(
            fold=number,
            run=run_of(folder, number).name,
            images=summary["test"]["images"],
            error_pct=summary["test"]["error_pct"],
            balanced_error_pct=summary["test"]["balanced_error_pct"],
            loss=summary["test"]["loss"],
            best_epoch=summary["best_epoch"],
            time_s=summary["time_s"],
        )
        for number, summary in summaries.items()
    )
    return Folds(
        task=CLASSIFICATION,
        folds=config.folds,
        config=replace(config, fold=None).to_dict(),
        runs=runs,
        together=_together(list(summaries.values())) if runs else None,
    )


def _together(summaries: list[dict[str, Any]]) -> Together:
    errors = [summary["test"]["error_pct"] for summary in summaries]
    confusion = np.sum([summary["test"]["confusion"] for summary in summaries], axis=0)
    images, wrong = int(confusion.sum()), int(confusion.sum() - np.trace(confusion))
    std = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
    mean = float(np.mean(errors))
    return Together(
        mean_error_pct=mean,
        std_error_pct=std,
        mean_interval_pct=None if std is None else _interval(mean, std, len(errors)),
        pooled_error_pct=100 * wrong / images,
        pooled_interval_pct=wilson_interval_pct(wrong, images),
        images=images,
        classes=tuple(summaries[0]["classes"]),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _interval(mean: float, std: float, count: int) -> tuple[float, float]:
    """95 % of the mean of ``count`` errors in percent."""
    half = student_half_width(std, count)
    return max(0.0, mean - half), min(100.0, mean + half)
