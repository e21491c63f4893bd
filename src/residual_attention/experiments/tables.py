"""An experiment's table, plot and page, from the records of its cells; what did not run says so."""

import csv
import io
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..palette import BLUE, GRAY, ORANGE, new_figure
from .cells import Places, cells_of, read_record, state_of
from .declarations import Experiment, Row
from .protocols import PROTOCOLS, applies


@dataclass(frozen=True)
class Line:
    """A row with what its cells reached; errors in percent on the test split, ``time_s`` the median of a cell."""

    row: Row
    errors: list[float]
    seeds: int
    status: str
    parameters: int | None = None
    time_s: float | None = None
    hardware: str = ""
    responses: dict[str, float] | None = None
    train_error_pct: float | None = None
    val_error_pct: float | None = None

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.errors) if self.errors else None

    @property
    def deviation(self) -> float | None:
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


def line_of(experiment: Experiment, row: Row, protocol: str, places: Places, seeds: int) -> Line:
    """What is on record of a row, over at least ``seeds`` cells and as many more as there are."""
    if not applies(protocol, row):
        return Line(row, [], 0, "left out")
    cells = cells_of(protocol, experiment, row, max(seeds, 20), {})
    records = [record for cell in cells if (record := read_record(places, protocol, cell)) is not None]
    if not records:
        broken = any(state_of(places, protocol, cell) != "not run" for cell in cells[:seeds])
        return Line(row, [], seeds, "partial" if broken else "not run")
    values = [record["test"]["error_pct"] for record in records]
    status = "done" if len(records) >= seeds else "partial"
    return Line(
        row,
        values,
        seeds,
        status,
        records[0]["parameters"],
        statistics.median(record["time_s"] for record in records),
        "; ".join(dict.fromkeys(_hardware(record) for record in records)),
        records[0].get("responses"),
        statistics.mean(record["train"]["error_pct"] for record in records),
        _mean_of(records, "val"),
    )


def _mean_of(records: list[dict[str, Any]], split: str) -> float | None:
    values = [record[split]["error_pct"] for record in records if record.get(split)]
    return statistics.mean(values) if values else None


def _hardware(record: dict[str, Any]) -> str:
    """Of a processor, the cores that the cell used: cells may run beside each other, a core each."""
    hardware = record["hardware"]
    used = min(hardware["threads"], hardware["cores"])
    return hardware["gpu"] or f"{used} core{'s' if used > 1 else ''} of {hardware['cpu']}"


def _text(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f} min"


HEADER = ("setting", "parameters", "reported", "ours", "n", "difference", "train", "val", "status", "time a cell", "on")


def _comparable(protocol: str) -> bool:
    """Whether our figures are of the data that the reported ones are of; smoke's digits are not."""
    return protocol != "smoke"


def _cells(line: Line, protocol: str) -> list[str]:
    ours, deviation = line.mean, line.deviation
    reported = line.row.reported_error_pct
    shown = "–" if ours is None else f"{ours:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
    known = ours is not None and reported is not None and _comparable(protocol)
    difference = f"{ours - reported:+.2f}" if known else "–"  # type: ignore[operator]
    return [
        line.row.label,
        "–" if line.parameters is None else f"{line.parameters / 1e6:.2f} M",
        _text(reported),
        shown,
        str(len(line.errors)),
        difference,
        _text(line.train_error_pct),
        _text(line.val_error_pct),
        line.status,
        _minutes(line.time_s),
        line.hardware or "–",
    ]


def markdown(lines: list[Line], protocol: str) -> str:
    """The table; errors in percent."""
    rows = [HEADER, tuple("---" for _ in HEADER), *(_cells(line, protocol) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(experiment: Experiment, protocol: str, lines: list[Line], out: Path) -> bool:
    """Reported and our errors side by side, and the responses of the stages; False when there is nothing of ours."""
    known = [line for line in lines if line.mean is not None]
    if not known:
        return False
    responses = [(line.row.label, line.responses) for line in known if line.responses and experiment.responses]
    figure = new_figure(12 if responses else 7.5, 0.42 * len(lines) + 1.6)
    panels = figure.subplots(1, 2, squeeze=False)[0] if responses else [figure.subplots()]
    axes = panels[0]
    for i, line in enumerate(lines):
        if line.row.reported_error_pct is not None and _comparable(protocol):
            axes.plot(line.row.reported_error_pct, i, "D", color=GRAY, label="reported" if i == 0 else None)
        if line.mean is not None:
            first = line is known[0]
            axes.errorbar(
                line.mean, i, xerr=line.deviation or 0, fmt="o", color=BLUE, capsize=3, label="ours" if first else None
            )
    axes.set_yticks(range(len(lines)), [line.row.label for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="test error (%)", xlim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    for number, (label, values) in enumerate(responses):
        assert values is not None
        colour, style = (BLUE, ORANGE)[number % 2], ("-", "--", ":", "-.")[number // 2 % 4]
        panels[1].plot(list(values), list(values.values()), color=colour, linestyle=style, marker="o", label=label)
    if responses:
        panels[1].set(ylabel="mean absolute response", yscale="log")
        panels[1].grid(alpha=0.25)
        panels[1].legend(frameon=False, fontsize=7)
    figure.savefig(out)
    return True


def page(experiment: Experiment, protocol: str, lines: list[Line], picture: bool) -> str:
    """Markdown: question, source, protocol, table, plot."""
    command = f"ran reproduce {experiment.name} --protocol {protocol}"
    parts = [
        f"# {experiment.title}",
        f"{experiment.question} Reported: {experiment.source}.",
        f"Protocol *{protocol}*. {PROTOCOLS[protocol].says} `{command}`",
        "Errors in percent; ours as mean ± standard deviation over n seeds, on the test split, evaluated once at the "
        "best validation epoch. *Difference* is ours less the reported figure, which has a protocol of its own."
        + ("" if _comparable(protocol) else " None here: the reported figures are of other data."),
        markdown(lines, protocol),
    ]
    if picture:
        parts.append(f"![Reported and our errors]({experiment.name}.png)")
    return "\n\n".join(parts) + "\n"


def write_tables(experiment: Experiment, protocol: str, places: Places, seeds: int) -> Path:
    """``<experiment>.md``, ``.csv`` and, where anything ran, ``.png`` beside the cells. Returns the page."""
    lines = [line_of(experiment, row, protocol, places, seeds) for row in experiment.rows]
    folder = places.records / protocol
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw(experiment, protocol, lines, folder / f"{experiment.name}.png")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(_cells(line, protocol) for line in lines)
    write_atomically(folder / f"{experiment.name}.csv", buffer.getvalue().encode())
    out = folder / f"{experiment.name}.md"
    write_atomically(out, page(experiment, protocol, lines, picture).encode())
    return out
