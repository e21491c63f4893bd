"""``report.html``: one self-contained page about a run, made from the files in its folder."""

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape


def _picture(path: Path) -> str | None:
    """A PNG as a data URL, so that the page asks for nothing."""
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


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
    figures.append({"label": "Training time", "value": _duration(summary["time_s"]), "note": note})
    return figures


def _splits(summary: dict[str, Any]) -> list[dict[str, str]]:
    names = (("train", "training"), ("val", "validation"), ("test", "test"))
    return [
        {
            "name": label,
            "images": f"{part['images']:,}",
            "error": _number(part["error_pct"]),
            "top5": _number(part.get("top5_error_pct")),
            "loss": _number(part["loss"], 4),
            "ece": _number(part.get("ece_pct")),
        }
        for name, label in names
        if (part := summary.get(name))
    ]


def _assessed(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The per-class table of the test split, or of validation without one; worst first."""
    name = "test" if summary.get("test") else "validation"
    part = summary.get("test") or summary.get("val")
    if not part or "per_class" not in part:
        return None
    rows = sorted(part["per_class"], key=lambda row: -1 if row["error_pct"] is None else row["error_pct"], reverse=True)
    shown = [{**row, "error": _number(row["error_pct"]), "precision": _number(row["precision_pct"])} for row in rows]
    return {"name": name, "per_class": shown}


def _made(summary: dict[str, Any]) -> list[tuple[str, str]]:
    hardware = summary["hardware"]
    processor = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB"
    rows = [
        ("steps", f"{summary['steps']:,} in {summary['epochs']} epochs ({summary['status'].replace('_', ' ')})"),
        ("precision", summary["precision"]),
        ("processor", processor),
        ("GPU", hardware["gpu"] or "none"),
        ("processes", str(summary["processes"])),
    ]
    rows += [(package, version) for package, version in summary["versions"].items()]
    if summary.get("skipped_images"):
        rows.append(("unreadable training images left out", str(summary["skipped_images"])))
    return rows


def write_report(run: Path) -> Path:
    """Write ``run/report.html`` from config.yaml, metrics.csv, summary.json and the PNG files beside them.

    Sections whose file is missing are left out. Raises ValueError when the folder holds no finished run.
    """
    summary_path = run / "summary.json"
    if not summary_path.is_file():
        raise ValueError(f"{run} holds no finished run: there is no summary.json in it")
    summary = json.loads(summary_path.read_text())
    config = run / "config.yaml"
    environment = Environment(
        loader=PackageLoader("residual_attention.evaluation"), autoescape=select_autoescape(default=True)
    )
    page = environment.get_template("report.html.j2").render(
        summary=summary,
        headline=_headline(summary),
        splits=_splits(summary),
        assessed=_assessed(summary),
        made=_made(summary),
        pictures={name: _picture(run / f"{name}.png") for name in ("attention", "curves", "confusion")},
        config=config.read_text() if config.is_file() else None,
        run=str(run),
    )
    out = run / "report.html"
    out.write_text(page, encoding="utf-8")
    return out
