"""Colours and figures, alike in every picture: safe for colour-blind readers, drawn without a display."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"  # Okabe and Ito
UNSIGNED, SIGNED = "magma", "PuOr_r"  # one hue's lightness; two hues about zero
DPI = 130
PHOTOGRAPHS_DPI = 95


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure with its own canvas: no global state, so that threads may draw."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_photographs(figure: Figure, out: Path) -> None:
    """A figure full of small photographs, at a resolution that lets several go into one page."""
    lossy = out.suffix in (".jpg", ".webp")
    figure.savefig(out, dpi=PHOTOGRAPHS_DPI, pil_kwargs={"quality": 88} if lossy else {"optimize": True})


def shortened(name: str, longest: int = 18) -> str:
    """A class name that fits above a picture."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
