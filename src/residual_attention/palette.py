"""Colours and settings shared by all figures: colour-blind safe, drawn without a display."""

import warnings
from pathlib import Path
from typing import Any

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from .names import printable

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"  # Okabe and Ito
UNSIGNED, SIGNED = "magma", "PuOr_r"  # one hue's lightness; two hues about zero
DPI = 130
PHOTOGRAPHS_DPI = 95


class PlainFigure(Figure):
    """A figure that draws names as they are: not as mathematics, and without control characters."""

    def savefig(self, fname: Any, **options: Any) -> None:
        powers = {label for axes in self.axes for axis in (axes.xaxis, axes.yaxis) for label in _powers_of_ten(axis)}
        for text in self.findobj(Text):
            assert isinstance(text, Text)
            if text in powers:
                continue
            text.set_parse_math(False)
            text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font lacks: drawn as boxes
            warnings.filterwarnings("ignore", message="constrained_layout")  # a name too long to leave any room
            super().savefig(fname, **options)


def _powers_of_ten(axis: Axis) -> list[Text]:
    """The tick labels of a logarithmic axis, which matplotlib writes as mathematics."""
    formatters = (axis.get_major_formatter(), axis.get_minor_formatter())
    return axis.get_ticklabels(which="both") if any(isinstance(each, LogFormatter) for each in formatters) else []


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure with its own canvas. There is no global state, so threads can draw."""
    figure = PlainFigure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_photographs(figure: Figure, out: Path) -> None:
    """Save a figure of many small photographs at a resolution low enough to put several on one page."""
    lossy = out.suffix in (".jpg", ".webp")
    figure.savefig(out, dpi=PHOTOGRAPHS_DPI, pil_kwargs={"quality": 88} if lossy else {"optimize": True})


def shortened(name: str, longest: int = 18) -> str:
    """A class name cut to fit above a picture."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
