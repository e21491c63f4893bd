"""An experiment's table, from the records of its cells; cells that did not run are marked as such."""

import statistics
from dataclasses import dataclass
from typing import Any

from .cells import Places, cells_of, records_of, state_of, test_at
from .declarations import Experiment, Row
from .protocols import applies


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


def comparable(protocol: str) -> bool:
    """Whether our figures and the reported ones use the same data; smoke's digits do not."""
    return protocol != "smoke"


def _difference(line: Line, protocol: str) -> float | None:
    if line.mean is None or line.row.reported_error_pct is None or not comparable(protocol):
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


def csv_row(line: Line, protocol: str) -> dict[str, str]:
    """The same by `COLUMNS`, for programs: plain numbers, empty where there is none."""
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
