"""The measures as a picture: one panel a measure, a dot and its interval a method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..palette import BLUE, GRAY, ORANGE, new_figure


def _colour(method: str) -> str:
    if method in ("centre prior", "random"):
        return GRAY
    return ORANGE if method == "Grad-CAM" else BLUE


def draw_measures(result: Mapping[str, Any], out: Path, titles: Mapping[str, str]) -> None:
    """Ours in blue, Grad-CAM in orange, what knows nothing of the image in gray."""
    methods = list(result["methods"])
    shown = [measure for measure in titles if measure in result["methods"][methods[0]]]
    figure = new_figure(3.3 * len(shown) + 1.6, 0.3 * len(methods) + 1.5)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, shown, strict=True):
        for place, method in enumerate(methods):
            value = result["methods"][method][measure]
            spread = [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
            axes.errorbar(value["mean"], place, xerr=spread, fmt="o", color=_colour(method), capsize=2)
        axes.set_title(titles[measure].replace(" (", "\n("), fontsize=9)
        axes.grid(alpha=0.25)
    panels[0].set_yticks(range(len(methods)), methods, fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(f"{result['data']}, {result['images']} images; mean and 95 % interval", fontsize=9)
    figure.savefig(out)
