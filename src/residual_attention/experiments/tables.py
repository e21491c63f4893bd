"""An experiment's table, plot and page, from the records of its cells; cells that did not run are marked as such."""

import csv
import io
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..palette import BLUE, GRAY, ORANGE, new_figure
from .cells import Places, cells_of, records_of, state_of, test_at
from .declarations import Experiment, Row
from .protocols import applies, describe


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row with the results of its cells; errors in percent on the test split, ``time_s`` the median over cells."""

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
    top5_error_pct: float | None = None

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.errors) if self.errors else None

    @property
    def deviation(self) -> float | None:
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


def line_of(experiment: Experiment, row: Row, protocol: str, places: Places, seeds: int) -> Line:
    """The recorded results of a row, over at least ``seeds`` cells and any further ones."""
    if not applies(protocol, row):
        return Line(row=row, errors=[], seeds=0, status="left out")
    records = [r for r in records_of(protocol, experiment, row, places) if test_at(row.test_px) in r]
    if not records:
        cells = cells_of(protocol, experiment, row, seeds, {})
        broken = any(state_of(places, protocol, cell) != "not run" for cell in cells)
        return Line(row=row, errors=[], seeds=seeds, status="partial" if broken else "not run")
    values = [record[test_at(row.test_px)]["error_pct"] for record in records]
    status = "done" if len(records) >= seeds else "partial"
    return Line(
        row=row,
        errors=values,
        seeds=seeds,
        status=status,
        parameters=records[0]["parameters"],
        time_s=statistics.median(record["time_s"] for record in records),
        hardware="; ".join(dict.fromkeys(_hardware(record) for record in records)),
        responses=records[0].get("responses"),
        train_error_pct=_mean_of(records, "train"),
        val_error_pct=_mean_of(records, "val"),
        top5_error_pct=_mean_of(records, test_at(row.test_px), "top5_error_pct"),
    )


def _mean_of(records: list[dict[str, Any]], split: str, figure: str = "error_pct") -> float | None:
    values = [value for record in records if (value := record.get(split, {}).get(figure)) is not None]
    return statistics.mean(values) if values else None


def _hardware(record: dict[str, Any]) -> str:
    """For a CPU, the number of cores that the cell used: cells may run in parallel, one core each."""
    hardware = record["hardware"]
    used = min(hardware["threads"], hardware["cores"])
    return hardware["gpu"] or f"{used} core{'s' if used > 1 else ''} of {hardware['cpu']}"


def _with_reported(value: float | None, reported: float | None = None, digits: int = 2) -> str:
    """Our figure, with the reported one in brackets."""
    ours = "–" if value is None else f"{value:.{digits}f}"
    return ours if reported is None else f"{ours} ({reported:.{digits}f})"


def _minutes(seconds: float | None, reported_s: float | None) -> str:
    def minutes(value: float | None) -> float | None:
        return None if value is None else value / 60

    return (
        "–"
        if seconds is None and reported_s is None
        else f"{_with_reported(minutes(seconds), minutes(reported_s), 1)} min"
    )


HEADER = ("setting", "parameters", "reported", "ours", "n", "difference", "train", "val", "status", "time a cell", "on")
COLUMNS: tuple[str, ...] = (
    "setting",
    "model",
    "data",
    "parameters",
    "reported_error_pct",
    "test_error_pct",
    "test_error_pct_std",
    "n",
    "difference_pct",
    "reported_top5_error_pct",
    "top5_error_pct",
    "reported_train_error_pct",
    "train_error_pct",
    "reported_val_error_pct",
    "val_error_pct",
    "status",
    "reported_time_s",
    "time_s",
    "hardware",
)


def _comparable(protocol: str) -> bool:
    """Whether our figures and the reported ones use the same data; smoke's digits do not."""
    return protocol != "smoke"


def _difference(line: Line, protocol: str) -> float | None:
    if line.mean is None or line.row.reported_error_pct is None or not _comparable(protocol):
        return None
    return line.mean - line.row.reported_error_pct


def _table_row(line: Line, protocol: str) -> list[str]:
    row, deviation, difference = line.row, line.deviation, _difference(line, protocol)
    return [
        row.label,
        "–" if line.parameters is None else f"{line.parameters / 1e6:.2f} M",
        _joined(row.reported_error_pct, row.reported_top5_error_pct, "/"),
        _joined(line.mean, deviation, "±") if row.data != "imagenet" else _joined(line.mean, line.top5_error_pct, "/"),
        str(len(line.errors)),
        "–" if difference is None else f"{difference:+.2f}",
        _with_reported(line.train_error_pct, row.reported_train_error_pct),
        _with_reported(line.val_error_pct, row.reported_val_error_pct),
        line.status,
        _minutes(line.time_s, row.reported_time_s),
        line.hardware or "–",
    ]


def _joined(first: float | None, second: float | None, sign: str) -> str:
    return _with_reported(first) if second is None else f"{_with_reported(first)} {sign} {second:.2f}"


def _csv_row(line: Line, protocol: str) -> dict[str, str]:
    """The same by `COLUMNS`, for programs: plain numbers, empty if there is none."""
    row = line.row
    reported = {name: getattr(row, name) for name in COLUMNS if name.startswith("reported_")}
    found = {
        "setting": row.label,
        "model": row.model,
        "data": "digits" if protocol == "smoke" else row.data,
        "parameters": line.parameters,
        "test_error_pct": line.mean,
        "test_error_pct_std": line.deviation,
        "n": len(line.errors),
        "difference_pct": _difference(line, protocol),
        "top5_error_pct": line.top5_error_pct,
        "train_error_pct": line.train_error_pct,
        "val_error_pct": line.val_error_pct,
        "status": line.status,
        "time_s": line.time_s,
        "hardware": line.hardware,
    }
    return {name: _csv_text({**reported, **found}[name]) for name in COLUMNS}


def _csv_text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def markdown(lines: list[Line], protocol: str) -> str:
    """The table; errors in percent."""
    rows = [HEADER, tuple("---" for _ in HEADER), *(_table_row(line, protocol) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(experiment: Experiment, protocol: str, lines: list[Line], out: Path) -> bool:
    """Reported and our errors side by side, and the responses of the stages; False if we have no results."""
    from matplotlib.ticker import LogLocator

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
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above: it hides no point
    for number, (label, values) in enumerate(responses):
        assert values is not None
        colour, style = (BLUE, ORANGE)[number % 2], ("-", "--", ":", "-.")[number // 2 % 4]
        panels[1].plot(list(values), list(values.values()), color=colour, linestyle=style, marker="o", label=label)
    if responses:
        panels[1].set(ylabel="mean absolute response", yscale="log")
        panels[1].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[1].yaxis.set_major_formatter("{x:g}")
        panels[1].yaxis.set_minor_formatter("")
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
        f"Protocol *{protocol}*. {describe(protocol, experiment)} `{command}`",
        _legend(lines, protocol),
        markdown(lines, protocol),
    ]
    if picture:
        parts.append(f"![Reported and our errors]({experiment.name}.png)")
    return "\n\n".join(parts) + "\n"


def _legend(lines: list[Line], protocol: str) -> str:
    """How to read the table."""
    rows = [line.row for line in lines]
    top5 = any(row.reported_top5_error_pct is not None for row in rows)
    shown = "top-1 / top-5, means" if top5 else "as mean ± standard deviation"
    parts = [
        f"Errors in percent; ours {shown} over n seeds, on the test split, evaluated once at the best validation "
        "epoch.",
        "*Difference* is ours minus the reported figure, which follows a different protocol."
        + ("" if _comparable(protocol) else " None here: the reported figures are for other data."),
    ]
    if any(row.reported_train_error_pct is not None for row in rows):
        parts.append("In brackets: training and validation errors and time as reported.")
    return " ".join(parts)


def write_tables(experiment: Experiment, protocol: str, places: Places, seeds: int) -> Path | None:
    """``<experiment>.md``, ``.csv`` and, if anything ran, ``.png`` beside the cells.

    Returns the page; None, with nothing written, if the protocol has none of the rows.
    """
    if not any(applies(protocol, row) for row in experiment.rows):
        return None
    lines = [line_of(experiment, row, protocol, places, seeds) for row in experiment.rows]
    folder = places.records / protocol
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw(experiment, protocol, lines, folder / f"{experiment.name}.png")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(line, protocol) for line in lines)
    write_atomically(folder / f"{experiment.name}.csv", buffer.getvalue().encode())
    out = folder / f"{experiment.name}.md"
    write_atomically(out, page(experiment, protocol, lines, picture).encode())
    return out
