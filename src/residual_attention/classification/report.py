"""``report.html``: one self-contained page about a run, made from the files in its folder."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..atomic import write_atomically
from ..training.page import (
    data_url,
    environment,
    made_rows,
    number,
    read_config,
    read_summary,
    shareable,
    short_duration,
)
from ..training.sections import render_sections
from .figures import draw_compared_curves, draw_confusion, draw_curves, draw_risk_coverage

PICTURES = ("attention", "mistakes", "successes", "curves", "confusion", "calibration", "coverage")


def _headline(summary: dict[str, Any]) -> list[dict[str, str]]:
    figures = []
    for name, label in (("test", "Test accuracy"), ("val", "Validation accuracy")):
        part = summary.get(name)
        if part:
            accuracy = f"{100 - part['error_pct']:.2f} %"
            figures.append({"label": label, "value": accuracy, "note": f"{part['images']} images"})
    train = summary.get("train")
    if train:
        accuracy = f"{100 - train['error_pct']:.2f} %"
        figures.append({"label": "Training accuracy", "value": accuracy, "note": "without augmentation"})
    note = f"{summary['images_per_s']:.0f} images/s, {summary['precision']}"
    figures.append({"label": "Training time", "value": short_duration(summary["time_s"]), "note": note})
    return figures


def _splits(summary: dict[str, Any]) -> list[dict[str, str]]:
    names = (("train", "training"), ("val", "validation"), ("test", "test"))
    return [
        {
            "name": label,
            "images": f"{part['images']:,}",
            "error": number(part["error_pct"]),
            "top5": number(part.get("top5_error_pct")),
            "loss": number(part["loss"], 4),
            "ece": number(part.get("ece_pct")),
            "calibrated_ece": number(part.get("calibrated_ece_pct")),
            "metrics": part.get("metrics", {}),
        }
        for name, label in names
        if (part := summary.get(name))
    ]


def _assessed(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The per-class table of the test split, or of validation if there is none; worst first."""
    name = "test" if summary.get("test") else "validation"
    part = summary.get("test") or summary.get("val")
    if not part or "per_class" not in part:
        return None
    rows = sorted(part["per_class"], key=lambda row: -1 if row["error_pct"] is None else row["error_pct"], reverse=True)
    shown = [{**row, "error": number(row["error_pct"]), "precision": number(row["precision_pct"])} for row in rows]
    return {"name": name, "per_class": shown}


def write_report(run: Path) -> Path:
    """Write ``run/report.html`` from config.yaml, metrics.csv, summary.json and the PNG files beside them.

    Sections whose file is missing are left out. Raises UserError if the folder holds no finished run.
    """
    summary = read_summary(run)
    config = run / "config.yaml"
    templates = environment("residual_attention.classification")
    page = templates.get_template("report.html.j2").render(
        summary=summary,
        headline=_headline(summary),
        splits=_splits(summary),
        assessed=_assessed(summary),
        sections=render_sections(run, summary, templates),
        made=made_rows(summary),
        pictures={name: data_url(run / f"{name}.png") for name in PICTURES},
        config=config.read_text() if config.is_file() else None,
        run=str(run),
    )
    out = run / "report.html"
    write_atomically(out, shareable(page, run, read_config(run)).encode())
    return out


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
    errors = {name: number((summary.get(name) or {}).get("error_pct")) for name in ("train", "val", "test")}
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
        **errors,
    }


def differing_settings(runs: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Settings in which the runs' ``config.yaml`` differ: (key, one value per run)."""
    configs = [yaml.safe_load((run / "config.yaml").read_text()) or {} for run in runs]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    values = [(key, [str(config.get(key)) for config in configs]) for key in keys if key != "out"]
    return [(key, of_runs) for key, of_runs in values if len(set(of_runs)) > 1]


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """One self-contained page about several runs side by side, in the order given.

    Raises UserError for a folder that holds no finished run.
    """
    rows = [_compared(run, read_summary(run)) for run in runs]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "curves.png"
        draw_compared_curves([(row["name"], run / "metrics.csv") for row, run in zip(rows, runs, strict=True)], picture)
        curves = data_url(picture)
    page = (
        environment("residual_attention.classification")
        .get_template("comparison.html.j2")
        .render(rows=rows, curves=curves, differing=differing_settings(runs))
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    for run in runs:
        page = shareable(page, run, read_config(run))
    write_atomically(out, page.encode())
    return out
