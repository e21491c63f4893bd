"""Colours and settings shared by all figures: colour-blind safe, drawn without a display."""

import warnings
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter, MaxNLocator

from .names import printable

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"  # Okabe and Ito
UNSIGNED, SIGNED = "magma", "PuOr_r"  # one hue's lightness; two hues about zero
DPI = 130
PHOTOGRAPHS_DPI = 95


class PlainFigure(Figure):
    """A figure that draws names as they are: not as mathematics, and without control characters."""

    def savefig(self, fname: Any, **options: Any) -> None:
        for text in self.findobj(Text):
            assert isinstance(text, Text)
            text.set_parse_math(False)
            text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font lacks: drawn as boxes
            warnings.filterwarnings("ignore", message="constrained_layout")  # a name too long to leave any room
            super().savefig(fname, **options)


class PlainNumbers(Formatter):
    """Ticks of a logarithmic axis as numbers, not as powers of ten; beyond a decade, only 1, 2 and 5 of each."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        leading = f"{x:e}".split("e")[0].rstrip("0.")
        return f"{x:g}" if high < 10 * low or leading in ("1", "2", "5") else ""


def plain_ticks(axis: Axis) -> None:
    axis.set_major_formatter(PlainNumbers())
    axis.set_minor_formatter(PlainNumbers())


def by_epoch(axes: Axes) -> None:
    """Epochs along the x axis, marked at whole numbers."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


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


def shortened_file(name: str, longest: int = 24) -> str:
    """A file's name cut in the middle to fit above a picture: names of one camera differ at the end."""
    tail = longest // 2
    return name if len(name) <= longest else f"{name[: longest - tail - 1]}…{name[-tail:]}"
