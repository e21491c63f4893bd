"""``report.html``: one self-contained page about a run, made from the files in its folder."""

import contextlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..atomic import write_atomically
from ..attention.rows import read_sheet
from ..documents import DAMAGE, blaming
from ..names import as_argument
from ..training.page import (
    data_url,
    environment,
    number,
    read_config,
    read_summary,
    shareable,
    short_duration,
    write_page,
)
from ..training.sections import render_sections
from .figures import draw_compared_curves, draw_confusion, draw_curves, draw_risk_coverage
from .interval import MANY_IMAGES, accuracy_note, error_cell, interval_pct

PICTURES = (
    "attention",
    "mistakes",
    "successes",
    "development",
    "curves",
    "precision_recall",
    "confusion",
    "calibration",
    "coverage",
)
SHEETS = ("attention", "mistakes", "successes", "development")  # of the pictures, those that a page lays out itself
SPLITS = (("train", "training"), ("val", "validation"), ("test", "test"))


def is_multilabel(summary: Mapping[str, Any]) -> bool:
    """Whether a run's images have any number of labels; its summary then has mAP in place of errors."""
    return bool(summary.get("several_labels"))


def _reached(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """The one figure of a split: accuracy or mAP. Of few images the second decimal would say nothing."""
    value = part["mean_ap_pct"] if is_multilabel(summary) else 100 - part["error_pct"]
    return f"{value:.{2 if part['images'] >= MANY_IMAGES else 1}f} %"


def _headline(summary: dict[str, Any]) -> list[dict[str, str]]:
    figures, what = [], "mAP" if is_multilabel(summary) else "accuracy"
    for name, label in reversed(SPLITS):
        if part := summary.get(name):
            note = "without augmentation" if name == "train" else accuracy_note(part)
            figures.append({"label": f"{label.capitalize()} {what}", "value": _reached(summary, part), "note": note})
    note = f"{summary['images_per_s']:.0f} images/s, {summary['precision']}"
    figures.append({"label": "Training time", "value": short_duration(summary["time_s"]), "note": note})
    return figures


class Column(NamedTuple):
    """Of a table: its heading, the key of its values, and their decimals, or what writes them."""

    heading: str
    key: str
    digits: int = 2
    written: Callable[[Mapping[str, Any]], str] | None = None


CALIBRATION = "cali\u00adbra\u00adtion error %"  # soft hyphens leave a phone room for the other columns
ERRORS = (
    Column("error %", "error_pct", written=error_cell),
    Column("top-5 error %", "top5_error_pct"),
    Column("loss", "loss", 4),
    Column(CALIBRATION, "ece_pct"),
    Column("with tem\u00adpera\u00adture", "calibrated_ece_pct"),
)
MULTILABEL = (
    Column("mAP %", "mean_ap_pct"),
    Column("F1 %, mean of labels", "macro_f1_pct"),
    Column("F1 %, all answers", "micro_f1_pct"),
    Column("every label right, % of images", "exact_pct"),
    Column("loss", "loss", 4),
    Column(CALIBRATION, "ece_pct"),
)
OF_CLASS = (Column("error %", "error_pct"), Column("precision %", "precision_pct"))
OF_LABEL = (
    Column("average precision %", "ap_pct"),
    Column("F1 %", "f1_pct"),
    Column("precision %", "precision_pct"),
    Column("recall %", "recall_pct"),
    Column("threshold", "threshold", 3),
)


def _cells(columns: Sequence[Column], values: Mapping[str, Any]) -> list[str]:
    return [each.written(values) if each.written else number(values.get(each.key), each.digits) for each in columns]


def _results(summary: dict[str, Any]) -> dict[str, Any]:
    """The table of splits: ``headings`` and ``rows``, and plugins' ``metrics`` by split."""
    parts = [(label, part) for name, label in SPLITS if (part := summary.get(name))]
    every = MULTILABEL if is_multilabel(summary) else ERRORS
    columns = [column for column in every if any(part.get(column.key) is not None for _, part in parts)]
    return {
        "headings": ["split", "images", *(column.heading for column in columns)],
        "rows": [[label, f"{part['images']:,}", *_cells(columns, part)] for label, part in parts],
        "intervals": any(interval_pct(part) for _, part in parts),
        "metrics": {label: part["metrics"] for label, part in parts if part.get("metrics")},
    }


def _assessed(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The per-class table of the test split, or of validation if there is none; worst first."""
    name = "test" if summary.get("test") else "validation"
    part = summary.get("test") or summary.get("val")
    if not part or "per_class" not in part:
        return None
    columns, worst = (OF_LABEL, "ap_pct") if is_multilabel(summary) else (OF_CLASS, "error_pct")
    sign = 1 if is_multilabel(summary) else -1
    ordered = sorted(part["per_class"], key=lambda row: math.inf if row[worst] is None else sign * row[worst])
    return {
        "name": name,
        "headings": ["label" if is_multilabel(summary) else "class", "images", *(each.heading for each in columns)],
        "rows": [[row["class"], row["images"], *_cells(columns, row)] for row in ordered],
    }


def _stacked(draw: Callable[..., None], of: Any) -> str | None:
    """A figure of curves for a narrow screen, its panels one above the other; None if they cannot be drawn."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(*DAMAGE, OSError):
        picture = Path(folder) / "curves.png"
        draw(of, picture, stacked=True)
        return data_url(picture)
    return None


def write_report(run: Path) -> Path:
    """Write ``run/report.html`` from config.yaml, metrics.csv, summary.json and the PNG files beside them.

    Sections whose file is missing are left out. Raises UserError if the folder holds no finished run.
    """
    summary = read_summary(run)
    templates = environment("residual_attention.classification")
    return write_page(
        run,
        templates.get_template("report.html.j2"),
        summary,
        PICTURES,
        headline=_headline(summary),
        multilabel=is_multilabel(summary),
        results=_results(summary),
        assessed=_assessed(summary),
        sections=render_sections(run, summary, templates),
        stacked=_stacked(draw_curves, run / "metrics.csv"),
        sheets={name: read_sheet(run / "sheets" / f"{name}.json") for name in SHEETS},
    )


def rebuild_report(run: Path) -> Path:
    """`write_report` with the curves and the confusion matrix redrawn from the run's files."""
    summary = read_summary(run)
    if (run / "metrics.csv").is_file():
        draw_curves(run / "metrics.csv", run / "curves.png")
    part = summary.get("test") or summary.get("val")
    if part and "confusion" in part:
        draw_confusion(part["confusion"], summary["classes"], run / "confusion.png")
    if part and "risk_coverage" in part:
        draw_risk_coverage(part["risk_coverage"], run / "coverage.png")
    return write_report(run)


def _compared(run: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """One row of the comparison."""
    parts = {name: summary.get(name) or {} for name, _ in SPLITS}
    reached = {
        name: error_cell(part) if (score := part.get("mean_ap_pct")) is None else f"mAP {number(score)}"
        for name, part in parts.items()
    }
    return {
        "name": run.resolve().name,
        "model": summary["model"],
        "data": summary["data"],
        "recipe": f"{summary['recipe']}, seed {summary['seed']}",
        "parameters": f"{summary['parameters'] / 1e6:.2f} M",
        "epochs": str(summary["epochs"]),
        "time": short_duration(summary["time_s"]),
        "ece": number((summary.get("test") or summary.get("val") or {}).get("ece_pct")),
        "attention": data_url(run / "attention.png"),
        "sheet": read_sheet(run / "sheets" / "attention.json"),
        "multilabel": is_multilabel(summary),
        "intervals": any(map(interval_pct, parts.values())),
        **reached,
    }


def differing_settings(runs: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Settings in which the runs' ``config.yaml`` differ: (key, one value per run)."""
    configs = [read_config(run) for run in runs]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    values = [(key, [str(config.get(key)) for config in configs]) for key in keys if key != "out"]
    return [(key, of_runs) for key, of_runs in values if len(set(of_runs)) > 1]


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """One self-contained page about several runs side by side, in the order given.

    Raises UserError for a folder that holds no finished run.
    """
    rows = []
    for run in runs:
        with blaming(
            f"{run} cannot be compared, its summary.json is damaged", f"`ran resume {as_argument(run)}` rewrites it"
        ):
            rows.append(_compared(run, read_summary(run)))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "curves.png"
        with blaming("the curves cannot be drawn, a metrics.csv is damaged"):
            named = [(row["name"], run / "metrics.csv") for row, run in zip(rows, runs, strict=True)]
            draw_compared_curves(named, picture)
        curves = data_url(picture)
    page = (
        environment("residual_attention.classification")
        .get_template("comparison.html.j2")
        .render(
            rows=rows,
            measure="error or mAP" if any(row["multilabel"] for row in rows) else "error",
            curves=curves,
            stacked=_stacked(draw_compared_curves, named),
            differing=differing_settings(runs),
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    for run in runs:
        page = shareable(page, run, read_config(run))
    write_atomically(out, page.encode())
    return out
