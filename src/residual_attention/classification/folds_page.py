"""``report.html`` of a cross-validation: mean and spread, each fold, the pooled confusion."""

import tempfile
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..training.page import data_url, environment, made_rows, number, read_config, read_summary, shareable
from ..training.page import short_duration as duration
from .figures import draw_compared_curves, draw_confusion
from .fold_results import Folds, Together

PAGE = "report.html"


def _headline(found: Folds, together: Together) -> list[dict[str, str]]:
    spread = "one fold so far" if together.std_error_pct is None else f"± {together.std_error_pct:.2f} over the folds"
    low, high = together.pooled_interval_pct
    boxes = [
        ("Error, mean of the folds", f"{together.mean_error_pct:.2f} %", spread),
        ("Pooled error", f"{together.pooled_error_pct:.2f} %", f"95 %: {low:.1f} to {high:.1f}"),
        ("Images", f"{together.images:,}", "each predicted once, out of fold"),
        ("Training time", duration(sum(run.time_s for run in found.runs)), f"{len(found.runs)} of {found.folds} folds"),
    ]
    return [{"label": label, "value": value, "note": note} for label, value, note in boxes]


def _rows(found: Folds) -> list[list[str]]:
    return [
        [
            run.run,
            f"{run.images:,}",
            number(run.error_pct),
            number(run.balanced_error_pct),
            number(run.loss, 4),
            "–" if run.best_epoch is None else str(run.best_epoch),
            duration(run.time_s),
        ]
        for run in found.runs
    ]


def _classes(together: Together) -> list[dict[str, str]]:
    """A row a class, the highest error first."""
    predicted = [sum(column) for column in zip(*together.confusion, strict=True)]
    rows = []
    for i, (name, counts) in enumerate(zip(together.classes, together.confusion, strict=True)):
        images, hits = sum(counts), counts[i]
        error = 100 * (images - hits) / images if images else None
        precision = 100 * hits / predicted[i] if predicted[i] else None
        rows.append((error or 0.0, name, f"{images:,}", number(error), number(precision)))
    rows.sort(key=lambda row: -row[0])
    return [{"name": name, "images": n, "error": error, "precision": p} for _, name, n, error, p in rows]


def write_folds_page(folder: Path, found: Folds) -> Path | None:
    """Write the page of the runs that are finished, self-contained; None without any."""
    together = found.together
    if together is None:
        return None
    runs = [folder / run.run for run in found.runs]
    summary: dict[str, Any] = read_summary(runs[0])
    with tempfile.TemporaryDirectory() as scratch:
        curves, confusion = Path(scratch) / "curves.png", Path(scratch) / "confusion.png"
        draw_compared_curves([(run.name, run / "metrics.csv") for run in runs], curves)
        draw_confusion(together.confusion, together.classes, confusion)
        pictures = {"curves": data_url(curves), "confusion": data_url(confusion)}
    page = (
        environment("residual_attention.classification")
        .get_template("folds.html.j2")
        .render(
            found=found,
            together=together,
            summary=summary,
            headline=_headline(found, together),
            rows=_rows(found),
            classes=_classes(together),
            pictures=pictures,
            made=made_rows(summary),
            config={key: value for key, value in found.config.items() if value is not None},
        )
    )
    out = folder / PAGE
    write_atomically(out, shareable(page, folder, {**found.config, **read_config(runs[0])}).encode())
    return out
