"""Run the cells that are missing, go on with those that were broken off, skip those that are done."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..evaluation.report import read_summary
from ..training.interrupt import Interrupted, SignalWatch
from ..training.run import resume, train
from .cells import Cell, Places, State, cells_of, read_record, state_of, training_macs, write_record
from .declarations import Experiment

GUESS_MACS_PER_S = 80e9  # of two cores with bf16; used until a cell has run
RESPONSE_IMAGES = 500

Say = Callable[[str], None]


@dataclass(frozen=True)
class Todo:
    """What an invocation has before it."""

    experiment: Experiment
    cell: Cell
    state: State


def todo(
    experiments: Iterable[Experiment],
    protocol: str,
    places: Places,
    seeds: int,
    given: dict[str, Any],
    shard: tuple[int, int] = (1, 1),
) -> list[Todo]:
    """Every cell of the experiments once, of which this machine takes each ``shard[1]``-th from ``shard[0]`` on.

    Seeds come outermost: one seed of all rows is there before the second of any.
    """
    found: dict[str, Todo] = {}
    for experiment in experiments:
        by_row = [cells_of(protocol, experiment, row, seeds, given) for row in experiment.rows]
        for cell in (cell for seed in zip(*[cells for cells in by_row if cells], strict=True) for cell in seed):
            found.setdefault(cell.key, Todo(experiment, cell, state_of(places, protocol, cell)))
    index, count = shard
    return list(found.values())[index - 1 :: count]


def expected_s(cells: list[Todo], protocol: str, places: Places) -> tuple[float, int]:
    """Seconds that the unfinished cells will take, and how many finished ones that is measured on (0: a guess)."""
    speeds = []
    for one in cells:
        record = read_record(places, protocol, one.cell) if one.state == "done" else None
        if record is not None and record["time_s"] > 0:
            speeds.append(training_macs(one.cell) / record["time_s"])
    speed = statistics.median(speeds) if speeds else GUESS_MACS_PER_S
    return sum(training_macs(one.cell) for one in cells if one.state != "done") / speed, len(speeds)


def run_cells(cells: list[Todo], protocol: str, places: Places, say: Say, changed: Callable[[], object]) -> None:
    """Bring every cell to its record; ``changed`` is called after each, to write the tables.

    Raises:
        Interrupted: a signal; the cell was saved, and the next call goes on with it.
        ValueError: a cell that cannot run, with its name.
    """
    with SignalWatch() as signals:
        for number, one in enumerate(cells, start=1):
            if _complete(one, protocol, places):
                continue
            say(f"cell {number}/{len(cells)}: {one.cell.key} ({one.state})")
            try:
                _run_cell(one, protocol, places)
            except Interrupted as stop:
                stop.args = (f"stopped in cell {one.cell.key}, saved; the same command goes on",)
                raise
            except ValueError as error:
                raise ValueError(f"cell {one.cell.key}: {error}") from error
            record = read_record(places, protocol, one.cell)
            assert record is not None
            say(f"  test error {record['test']['error_pct']:.2f} %, {record['time_s']:.0f} s of training")
            changed()
            if signals.received:
                raise Interrupted(
                    signals.received, f"stopped after cell {one.cell.key}, which is done; the same command goes on"
                )


def _complete(one: Todo, protocol: str, places: Places) -> bool:
    """Whether the record has all that the experiment draws, or what it lacks cannot be had without the run's folder."""
    record = read_record(places, protocol, one.cell)
    if record is None:
        return False
    lacks = one.experiment.responses and "responses" not in record
    return not (lacks and (places.run_of(protocol, one.cell) / "summary.json").is_file())


def _run_cell(one: Todo, protocol: str, places: Places) -> None:
    run = places.run_of(protocol, one.cell)
    if (run / "summary.json").is_file():
        summary = read_summary(run)
    elif (run / "checkpoints" / "last.safetensors").is_file():
        summary = resume(run, json=True)
    else:
        summary = train(replace(one.cell.config, out=run, json=True))
    more = {"responses": _responses(run, one.cell)} if one.experiment.responses else {}
    write_record(places, protocol, one.cell, summary, **more)


def _responses(run: Any, cell: Cell) -> dict[str, float]:
    """Mean absolute response of each stage on test images (paper, section 4.1)."""
    from ..attention.measure import model_responses
    from ..checkpoints import load

    data_dir = cell.config.data_dir
    return dict(model_responses(load(run), cell.config.data, data_dir=data_dir, limit=RESPONSE_IMAGES))
