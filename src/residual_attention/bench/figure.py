"""A plot of the cost of depth, batch size and image size."""

from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator

from ..palette import BLUE, ORANGE, new_figure


def draw_cost(rows: list[dict[str, Any]], out: Path) -> None:
    """One panel per sweep: images/s of inference and training over depth, batch size and image size."""
    sweeps = [row for row in rows if row["suite"] == "cost"]
    panels = [over for over in ("depth", "batch", "image size") if any(row["over"] == over for row in sweeps)]
    titles = {"depth": "CIFAR networks, 32 px", "batch": "Attention-56, 32 px", "image size": "Attention-56, batch 4"}
    names = {"depth": "depth (layers of the trunk)", "batch": "batch size (images)", "image size": "image size (px)"}
    figure = new_figure(4.2 * len(panels), 3.6)
    for axes, over in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for color, marker, what in ((BLUE, "o", "inference"), (ORANGE, "s", "training")):
            points = sorted((r["value"], r["images_per_s"]) for r in sweeps if r["over"] == over and r["what"] == what)
            axes.plot(*zip(*points, strict=True), marker=marker, color=color, label=what)
        axes.set(xscale="log", yscale="log", xlabel=names[over], ylabel="images/s", title=titles[over])
        ticks = sorted({row["value"] for row in sweeps if row["over"] == over})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out)
