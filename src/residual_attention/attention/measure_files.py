"""Writes what was measured on maps and masks: JSON, a CSV with one row per figure, and a picture with intervals."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..own_files import OwnFiles
from ..palette import BLUE, GRAY, ORANGE, new_figure
from .bootstrap import Interval
from .interventions import MaskEffects
from .measure import MapMeasures
from .measuring import MEASURES
from .peers import PEERS


def write_measures(measures: MapMeasures, out: Path, **more: Any) -> list[Path]:
    """Write ``measures.json`` (with ``more`` beside the measures), ``measures.csv`` and ``measures.png`` in ``out``."""
    rows = [
        [method, measure, *_figures(value), measures.images]
        for method, found in measures.methods.items()
        for measure, value in found.items()
    ]
    table = _table(["method", "measure", "mean", "low", "high", "images"], rows)
    files = _write(out, "measures", {**measures.to_dict(), **more}, table)
    draw_measures(measures, files[2])
    return files


def write_effects(effects: MaskEffects, out: Path, **more: Any) -> list[Path]:
    """Write ``interventions.json`` (with ``more`` beside the figures), ``.csv`` and ``.png`` in ``out``."""
    rows = [
        [module, masks, figure, *_figures(value), effects.images]
        for module, masks, effect in effects.rows()
        for figure, value in vars(effect).items()
    ]
    table = _table(["module", "masks", "figure", "mean", "low", "high", "images"], rows)
    files = _write(out, "interventions", {**effects.to_dict(), **more}, table)
    draw_effects(effects, files[2])
    return files


def _write(out: Path, name: str, values: dict[str, Any], table: str) -> list[Path]:
    """Write the JSON and the CSV; returns their paths and that of the picture."""
    own = OwnFiles(out)
    files = [own.take(f"{name}.{suffix}") for suffix in ("json", "csv", "png")]
    write_atomically(files[0], (json.dumps(values, indent=1) + "\n").encode())
    write_atomically(files[1], table.encode())
    return files


def _figures(value: Interval) -> list[str]:
    return [f"{figure:.4f}" for figure in (value.mean, value.low, value.high)]


def _table(header: list[str], rows: list[list[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header, *rows])
    return buffer.getvalue()


def _colour(method: str) -> str:
    if method in ("centre prior", "random"):
        return GRAY
    return ORANGE if method in PEERS else BLUE


def draw_measures(measures: MapMeasures, out: Path) -> None:
    """Draw one panel per measure, a dot with its interval per method: masks blue, others orange, baselines gray."""
    methods = list(measures.methods)
    shown = [measure for measure in MEASURES if measure in measures.methods[methods[0]]]
    figure = new_figure(3.3 * len(shown) + 1.6, 0.3 * len(methods) + 1.5)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, shown, strict=True):
        for place, method in enumerate(methods):
            value = measures.methods[method][measure]
            spread = [[value.mean - value.low], [value.high - value.mean]]
            axes.errorbar(value.mean, place, xerr=spread, fmt="o", color=_colour(method), capsize=2)
        axes.set_title(MEASURES[measure].title.replace(" (", "\n("), fontsize=9)
        axes.grid(alpha=0.25)
    panels[0].set_yticks(range(len(methods)), methods, fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(f"{measures.data}, {measures.images} images; mean and 95 % interval", fontsize=9)
    figure.savefig(out)


def draw_effects(effects: MaskEffects, out: Path) -> None:
    """Draw accuracy and confidence after each intervention, one panel per module, beside the unchanged network."""
    names = list(next(iter(effects.effects.values())))
    figure = new_figure(2.6 * len(effects.effects) + 1.8, 0.32 * len(names) + 1.6)
    panels = figure.subplots(1, len(effects.effects), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (module, found) in zip(panels, effects.effects.items(), strict=True):
        for colour, field, label, shift in (
            (BLUE, "accuracy_pct", "accuracy", -0.12),
            (ORANGE, "confidence_pct", "confidence", 0.12),
        ):
            axes.axvline(getattr(effects.unchanged, field).mean, color=colour, linewidth=1, alpha=0.5)
            for place, name in enumerate(names):
                value = getattr(found[name], field)
                spread = [[value.mean - value.low], [value.high - value.mean]]
                axes.errorbar(
                    value.mean,
                    place + shift,
                    xerr=spread,
                    fmt="o",
                    markersize=4,
                    color=colour,
                    capsize=2,
                    label=label if place == 0 else None,
                )
        axes.set_title(module, fontsize=9)
        axes.set_xlim(0, 102)
        axes.set_xlabel("%", fontsize=8)
        axes.grid(alpha=0.25)
    panels[0].set_yticks(range(len(names)), [f"M: {name}" for name in names], fontsize=8)
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=7, loc="lower left")
    figure.suptitle(
        f"{effects.data} {effects.split}, {effects.images} images; masks replaced as named; lines: unchanged network",
        fontsize=9,
    )
    figure.savefig(out)
