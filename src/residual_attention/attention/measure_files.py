"""Writes map measures: JSON, a CSV with one row per method and measure, and a figure with intervals."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..palette import BLUE, GRAY, ORANGE, new_figure
from .measure import MEASURES, MapMeasures


def write_measures(measures: MapMeasures, out: Path, **more: Any) -> list[Path]:
    """Write ``measures.json`` (with ``more`` beside the measures), ``measures.csv`` and ``measures.png`` in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"measures.{suffix}" for suffix in ("json", "csv", "png")]
    write_atomically(files[0], (json.dumps({**measures.to_dict(), **more}, indent=1) + "\n").encode())
    write_atomically(files[1], _table(measures).encode())
    draw_measures(measures, files[2])
    return files


def _table(measures: MapMeasures) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["method", "measure", "mean", "low", "high", "images"])
    for method, found in measures.methods.items():
        for measure, value in found.items():
            figures = [f"{figure:.4f}" for figure in (value.mean, value.low, value.high)]
            writer.writerow([method, measure, *figures, measures.images])
    return buffer.getvalue()


def _colour(method: str) -> str:
    if method in ("centre prior", "random"):
        return GRAY
    return ORANGE if method == "Grad-CAM" else BLUE


def draw_measures(measures: MapMeasures, out: Path) -> None:
    """Draw one panel per measure, a dot with its interval per method: masks blue, Grad-CAM orange, baselines gray."""
    methods = list(measures.methods)
    shown = [measure for measure in MEASURES if measure in measures.methods[methods[0]]]
    figure = new_figure(3.3 * len(shown) + 1.6, 0.3 * len(methods) + 1.5)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, shown, strict=True):
        for place, method in enumerate(methods):
            value = measures.methods[method][measure]
            spread = [[value.mean - value.low], [value.high - value.mean]]
            axes.errorbar(value.mean, place, xerr=spread, fmt="o", color=_colour(method), capsize=2)
        axes.set_title(MEASURES[measure].replace(" (", "\n("), fontsize=9)
        axes.grid(alpha=0.25)
    panels[0].set_yticks(range(len(methods)), methods, fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(f"{measures.data}, {measures.images} images; mean and 95 % interval", fontsize=9)
    figure.savefig(out)
