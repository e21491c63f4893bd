"""``report.html`` of a detector: one self-contained page, generated from the files in the run folder."""

from pathlib import Path
from typing import Any

from ..training.page import environment, number, read_summary, short_duration, write_page
from ..training.progress import rate_text

PICTURES = ("boxes", "attention", "precision_recall", "curves")


def _headline(summary: dict[str, Any]) -> list[dict[str, str]]:
    figures = []
    for name, label in (("test", "Test"), ("val", "Validation")):
        if part := summary.get(name):
            note = f"{part['images']} images, {part['boxes']} boxes"
            figures.append({"label": f"{label} AP50", "value": f"{part['ap50_pct']:.1f} %", "note": note})
            figures.append({"label": f"{label} mAP", "value": f"{part['map_pct']:.1f} %", "note": "IoU 0.50 to 0.95"})
    note = f"{rate_text(summary['images_per_s'])} images/s, {summary['precision']}"
    figures.append({"label": "Training time", "value": short_duration(summary["time_s"]), "note": note})
    return figures


def _splits(summary: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, label in (("val", "validation"), ("test", "test")):
        if part := summary.get(name):
            keys = ("map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "voc_ap50", "voc07_ap50")
            rows.append({"name": label, **{key: number(part[f"{key}_pct"]) for key in keys}})
    return rows


def _classes(summary: dict[str, Any]) -> dict[str, Any] | None:
    name = "test" if summary.get("test") else "validation"
    part = summary.get("test") or summary.get("val")
    if not part:
        return None
    rows = sorted(part["per_class"], key=lambda row: row["ap50_pct"] if row["ap50_pct"] is not None else -1)
    keys = ("ap50_pct", "ap50_07_pct", "precision_pct", "recall_pct")
    shown = [
        {
            "class": row["class"],
            "boxes": row["boxes"],
            **{k: number(row[k]) for k in keys},
            "score": number(row["score"]),
        }
        for row in rows
    ]
    return {"name": name, "rows": shown}


def write_detection_report(run: Path) -> Path:
    """Write ``run/report.html`` from config.yaml, summary.json and the PNG files beside them.

    Raises UserError when the folder holds no finished run.
    """
    summary, problems = read_summary(run), run / "problems.txt"
    return write_page(
        run,
        environment("residual_attention.detection").get_template("detection.html.j2"),
        summary,
        PICTURES,
        headline=_headline(summary),
        splits=_splits(summary),
        assessed=_classes(summary),
        problems=problems.read_text().splitlines() if problems.is_file() else [],
    )
