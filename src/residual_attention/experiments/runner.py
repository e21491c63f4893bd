"""Run missing cells, resume interrupted cells, skip finished cells."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..tasks import resume, train
from ..training.interrupt import Interrupted, SignalWatch
from ..training.page import read_summary
from ..training.runfolder import RunInUse
from .cells import (
    Cell,
    Places,
    State,
    cells_of,
    check_run,
    extra_measurements_of,
    fraction_left,
    read_record,
    state_of,
    test_at,
    training_macs,
    write_record,
)
from .declarations import Experiment
from .slices import ALL, Slice

GUESS_MACS_PER_S = 80e9  # on two cores with bf16; used until a cell has run
RESPONSE_IMAGES = 500

Say = Callable[[str], None]


@dataclass(frozen=True)
class Todo:
    """A cell to run, with what the tables that share it need beyond its summary.

    ``responses``: the mean absolute response of each stage; ``test_px``: other sizes at which it is tested.
    """

    cell: Cell
    state: State
    responses: bool = False
    test_px: frozenset[int] = frozenset()


def todo(
    experiments: Iterable[Experiment],
    protocol: str,
    places: Places,
    seeds: int,
    given: dict[str, Any],
    part: Slice = ALL,
) -> list[Todo]:
    """Every cell of the experiments once, restricted to a machine's ``part``.

    Seeds vary slowest: all rows get their first seed before any gets its second.
    """
    found: dict[str, Todo] = {}
    for experiment in experiments:
        by_row = [cells_of(protocol, experiment, row, seeds, given) for row in experiment.rows]
        for cell in (cell for seed in zip(*[cells for cells in by_row if cells], strict=True) for cell in seed):
            one = found.get(cell.key) or Todo(cell, state_of(places, protocol, cell))
            sizes = one.test_px | ({cell.test_px} if cell.test_px is not None else set())
            found[cell.key] = replace(one, responses=one.responses or experiment.responses, test_px=sizes)
    return part.of(list(found.values()))


def expected_s(cells: list[Todo], protocol: str, places: Places) -> tuple[float, int]:
    """Seconds of training left, and the number of finished cells that the estimate is based on (0: a guess)."""
    speeds = []
    for one in cells:
        record = read_record(places, protocol, one.cell) if one.state == "done" else None
        if record is not None and record["time_s"] > 0:
            speeds.append(training_macs(one.cell) / record["time_s"])
    speed = statistics.median(speeds) if speeds else GUESS_MACS_PER_S
    left = sum(fraction_left(places, protocol, one.cell) * training_macs(one.cell) for one in cells)
    return left / speed, len(speeds)


def run_cells(cells: list[Todo], protocol: str, places: Places, say: Say, changed: Callable[[], object]) -> None:
    """Run every cell and record it; ``changed`` is called after each, to write the tables.

    A cell that another process is running is retried at the end, then left to that process.

    Raises:
        Interrupted: a signal arrived; the cell was saved, and the next call resumes it.
        UserError: a cell cannot run; the message names it.
    """
    in_use: list[Todo] = []
    with SignalWatch() as signals:
        for number, one in enumerate(cells, start=1):
            if is_complete(one, protocol, places):
                continue
            state = "to be completed" if one.state == "done" else one.state
            say(f"cell {number}/{len(cells)}: {one.cell.key} ({state})")
            try:
                _complete_cell(one, protocol, places, say, changed, signals)
            except RunInUse:
                say("  another process is running this cell; trying again at the end")
                in_use.append(one)
        for one in in_use:
            if is_complete(one, protocol, places):
                continue
            try:
                _complete_cell(one, protocol, places, say, changed, signals)
            except RunInUse:
                say(f"{one.cell.key} is still running in another process; skipped")


def _complete_cell(
    one: Todo, protocol: str, places: Places, say: Say, changed: Callable[[], object], signals: SignalWatch
) -> None:
    try:
        _run_cell(one, protocol, places)
    except Interrupted as stop:
        stop.args = (f"stopped in cell {one.cell.key}, saved; run the same command to continue",)
        raise
    except RunInUse:
        raise
    except UserError as error:
        raise UserError(f"cell {one.cell.key}: {error}") from error
    record = read_record(places, protocol, one.cell)
    assert record is not None
    say(f"  test error {record['test']['error_pct']:.2f} %, {record['time_s']:.0f} s of training")
    changed()
    if signals.received:
        raise Interrupted(
            signals.received, f"stopped after cell {one.cell.key}, which is done; run the same command to continue"
        )


def is_complete(one: Todo, protocol: str, places: Places) -> bool:
    """Whether the record has all that its tables show, or cannot be completed because the run folder is gone."""
    record = read_record(places, protocol, one.cell)
    if record is None:
        return False
    lacks = set(_extra_measurements(one)) - set(record)
    return not (lacks and places.summary_of(protocol, one.cell).is_file())


def _run_cell(one: Todo, protocol: str, places: Places) -> None:
    run, config = places.run_of(protocol, one.cell), one.cell.config
    if places.checkpoint_of(protocol, one.cell).is_file():
        check_run(places, protocol, one.cell)
    if places.summary_of(protocol, one.cell).is_file():
        summary = read_summary(run)
    elif places.checkpoint_of(protocol, one.cell).is_file():
        folder = None if config.data_dir is None else str(config.data_dir)
        device = None if config.device == "auto" else config.device
        summary = resume(run, json=True, data_dir=folder, device=device)
    else:
        summary = train(replace(config, out=run, json=True))
    measured = extra_measurements_of(read_record(places, protocol, one.cell) or {})
    for name, measure in _extra_measurements(one).items():
        if name not in measured:
            measured[name] = measure(run, one.cell)
    write_record(places, protocol, one.cell, summary, **measured)


def _extra_measurements(one: Todo) -> dict[str, Callable[[Path, Cell], Any]]:
    """What a table needs from a finished run beyond its summary, by its name in the record."""
    found: dict[str, Callable[[Path, Cell], Any]] = {}
    if one.responses:
        found["responses"] = _stage_responses
    for size in sorted(one.test_px):
        found[test_at(size)] = partial(_test_at_size, size)
    return found


def _test_at_size(size: int, run: Path, cell: Cell) -> dict[str, Any]:
    """The test split at another size (paper, section 4.2)."""
    from ..classification.evaluate import evaluate_model

    config = cell.config
    found = evaluate_model(str(run), config.data, data_dir=config.data_dir, image_size=size, device=config.device)
    return {
        "error_pct": found["top1_error_pct"],
        **{key: found[key] for key in ("top5_error_pct", "loss", "images")},
    }


def _stage_responses(run: Path, cell: Cell) -> dict[str, float]:
    """Mean absolute response of each stage on test images (paper, section 4.1)."""
    from ..attention.response import responses_on_split
    from ..checkpoints import load

    data_dir = cell.config.data_dir
    return dict(responses_on_split(load(run), cell.config.data, data_dir=data_dir, limit=RESPONSE_IMAGES))
