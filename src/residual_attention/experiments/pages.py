"""An experiment's page: the question, the table, the plot, and the files that hold them."""

import csv
import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from ..atomic import write_atomically
from ..palette import BLUE, GRAY, ORANGE, new_figure
from .cells import Places
from .declarations import Experiment
from .protocols import applies, describe
from .tables import COLUMNS, Line, comparable, csv_row, line_of, markdown


def _draw_errors(axes: Axes, lines: list[Line], reported: bool) -> None:
    """A row a line: ours with its deviation, and where ``reported`` what others report."""
    first = next(line for line in lines if line.mean is not None)
    for i, line in enumerate(lines):
        if reported and line.row.reported_error_pct is not None:
            axes.plot(line.row.reported_error_pct, i, "D", color=GRAY, label="reported" if i == 0 else None)
        if line.mean is not None:
            label = "ours" if line is first else None
            axes.errorbar(line.mean, i, xerr=line.deviation or 0, fmt="o", color=BLUE, capsize=3, label=label)
    axes.set_yticks(range(len(lines)), [line.row.label for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="test error (%)", xlim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above: it hides no point


def _draw_responses(axes: Axes, responses: dict[str, dict[str, float]]) -> None:
    """A curve over the stages for each label."""
    for number, (label, values) in enumerate(responses.items()):
        colour, style = (BLUE, ORANGE)[number % 2], ("-", "--", ":", "-.")[number // 2 % 4]
        axes.plot(list(values), list(values.values()), color=colour, linestyle=style, marker="o", label=label)
    axes.set(ylabel="mean absolute response", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)


def draw_table(experiment: Experiment, protocol: str, lines: list[Line], out: Path) -> bool:
    """Reported and our errors side by side, and the responses of the stages; False when there is nothing of ours."""
    known = [line for line in lines if line.mean is not None]
    if not known:
        return False
    responses = {line.row.label: line.responses for line in known if line.responses and experiment.responses}
    figure = new_figure(12 if responses else 7.5, 0.42 * len(lines) + 1.6)
    panels = figure.subplots(1, 2, squeeze=False)[0] if responses else [figure.subplots()]
    _draw_errors(panels[0], lines, comparable(protocol))
    if responses:
        _draw_responses(panels[1], responses)
    figure.savefig(out)
    return True


def page(experiment: Experiment, protocol: str, lines: list[Line], picture: bool) -> str:
    """Markdown: question, source, protocol, table, plot."""
    command = f"ran reproduce {experiment.name} --protocol {protocol}"
    parts = [
        f"# {experiment.title}",
        f"{experiment.question} Reported: {experiment.source}.",
        f"Protocol *{protocol}*. {describe(protocol, experiment)} `{command}`",
        _legend(lines, protocol),
        markdown(lines, protocol),
    ]
    if picture:
        parts.append(f"![Reported and our errors]({experiment.name}.png)")
    return "\n\n".join(parts) + "\n"


def _legend(lines: list[Line], protocol: str) -> str:
    """How the table is to be read."""
    rows = [line.row for line in lines]
    top5 = any(row.reported_top5_error_pct is not None for row in rows)
    shown = "top-1 / top-5, means" if top5 else "as mean ± standard deviation"
    parts = [
        f"Errors in percent; ours {shown} over n seeds, on the test split, evaluated once at the best validation "
        "epoch.",
        "*Difference* is ours less the reported figure, which has a protocol of its own."
        + ("" if comparable(protocol) else " None here: the reported figures are of other data."),
    ]
    if any(row.reported_train_error_pct is not None for row in rows):
        parts.append("In brackets: training and validation errors and time as reported.")
    return " ".join(parts)


def write_tables(experiment: Experiment, protocol: str, places: Places, seeds: int) -> Path | None:
    """``<experiment>.md``, ``.csv`` and, where anything ran, ``.png`` beside the cells.

    Returns the page; None, and nothing is written, where the protocol has none of the rows.
    """
    if not any(applies(protocol, row) for row in experiment.rows):
        return None
    lines = [line_of(experiment, row, protocol, places, seeds) for row in experiment.rows]
    folder = places.records / protocol
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw_table(experiment, protocol, lines, folder / f"{experiment.name}.png")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_row(line, protocol) for line in lines)
    write_atomically(folder / f"{experiment.name}.csv", buffer.getvalue().encode())
    out = folder / f"{experiment.name}.md"
    write_atomically(out, page(experiment, protocol, lines, picture).encode())
    return out
