"""A cell is one run: its name, its state and its record."""

import json
import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..atomic import write_atomically
from ..checkpoints.card import read_card
from ..classification.config import TrainConfig
from ..errors import UserError
from ..family.ledger import ledger_row
from ..family.variants import default_image_size
from ..training.options import MachineOptions, OutputOptions
from .declarations import Experiment, Row
from .protocols import applies, changes_from_defaults, configure, recipe_of

State = Literal["not run", "partial", "done"]


@dataclass(frozen=True)
class Cell:
    """``key`` names what is run, not the table it is for: a cell that two tables need is run once.

    ``test_px``: another image size (side in pixels) at which the test split is also evaluated.
    """

    key: str
    config: TrainConfig
    test_px: int | None = None


@dataclass(frozen=True)
class Places:
    """``runs``: the run folders, large, on this machine; ``records``: a small JSON per cell and the tables, to keep."""

    runs: Path
    records: Path

    def run_of(self, protocol: str, cell: Cell) -> Path:
        return self.runs / protocol / cell.key

    def record_of(self, protocol: str, cell: Cell) -> Path:
        return self.records / protocol / "cells" / f"{cell.key}.json"

    def checkpoint_of(self, protocol: str, cell: Cell) -> Path:
        return self.run_of(protocol, cell) / "checkpoints" / "last.safetensors"

    def summary_of(self, protocol: str, cell: Cell) -> Path:
        return self.run_of(protocol, cell) / "summary.json"


def _row_key(row: Row, experiment: Experiment, protocol: str) -> str:
    """``cifar10_attention56_cifar_learning-naive``; defaults are omitted, so that equal cells have the same name."""
    changes = [f"{key}-{_key_text(value)}" for key, value in sorted(changes_from_defaults(row).items())]
    own = recipe_of(protocol, experiment)
    data = "digits" if protocol == "smoke" else row.data
    return "_".join([data, row.model, *([own] if own else []), *changes])


def _key_text(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cell(protocol: str, experiment: Experiment, row: Row, seed: int, given: dict[str, Any]) -> Cell:
    key = f"{_row_key(row, experiment, protocol)}_seed{seed}"
    return Cell(key, configure(protocol, experiment, row, seed, **given), row.test_px)


def cells_of(protocol: str, experiment: Experiment, row: Row, seeds: int, given: dict[str, Any]) -> list[Cell]:
    """The cells of a row, one per seed; none if the protocol leaves the row out."""
    if not applies(protocol, row):
        return []
    return [_cell(protocol, experiment, row, seed, given) for seed in range(seeds)]


def records_of(protocol: str, experiment: Experiment, row: Row, places: Places) -> list[dict[str, Any]]:
    """The records of a row, one per seed that ran, in the order of the seeds. Raises like `read_record`."""
    if not applies(protocol, row):
        return []
    name = _row_key(row, experiment, protocol)
    paths = (places.records / protocol / "cells").glob(f"{name}_seed*.json")
    seeds = sorted(int(found[1]) for path in paths if (found := re.fullmatch(r".*_seed(\d+)", path.stem)))
    cells = (_cell(protocol, experiment, row, seed, {}) for seed in seeds)
    return [record for cell in cells if (record := read_record(places, protocol, cell)) is not None]


def state_of(places: Places, protocol: str, cell: Cell) -> State:
    """Done if it has a record or its run is complete; partial if there is a checkpoint to continue from."""
    if places.record_of(protocol, cell).is_file() or places.summary_of(protocol, cell).is_file():
        return "done"
    return "partial" if places.checkpoint_of(protocol, cell).is_file() else "not run"


def fraction_left(places: Places, protocol: str, cell: Cell) -> float:
    """The remaining fraction of the cell's training, from 1 (not started) to 0 (done), by its last checkpoint."""
    state = state_of(places, protocol, cell)
    if state != "partial":
        return float(state == "not run")
    training = read_card(places.checkpoint_of(protocol, cell)).training
    assert training is not None
    progress = training["progress"]
    return 1.0 - progress["step"] / progress["planned_steps"]


def read_record(places: Places, protocol: str, cell: Cell) -> dict[str, Any] | None:
    """The cell's record, or None. Raises UserError if it is damaged or was made with other settings."""
    path = places.record_of(protocol, cell)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        settings = record["settings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged; delete it to have the cell recorded or run again") from None
    ran = TrainConfig.from_dict({k: v for k, v in settings.items() if k not in NOT_COMPARED})
    _check_same(cell, ran, path)
    return record


NOT_COMPARED = {  # the machine's settings, and what has no effect on the data sets of the tables
    "data_dir",
    "workers",
    "split_rule",
    *(option.name for kind in (MachineOptions, OutputOptions) for option in fields(kind)),
}
RESOLVED = {"image_size", "in_chans", "flip", "crop_padding", "repeats"}  # resolved from the data if None


def check_run(places: Places, protocol: str, cell: Cell) -> None:
    """Raise UserError when the run in the cell's folder was made with other settings."""
    card = read_card(places.checkpoint_of(protocol, cell))
    _check_same(cell, TrainConfig.from_dict(card.config), places.run_of(protocol, cell))


def _check_same(cell: Cell, ran: TrainConfig, place: Path) -> None:
    declared, found = cell.config.to_dict(), ran.to_dict()
    if cell.config.steps is not None:  # then epochs have no effect
        declared["epochs"] = found["epochs"]
    for key, value in declared.items():
        chosen = value is None and key in RESOLVED
        if key not in NOT_COMPARED and not chosen and found[key] != value:
            raise UserError(
                f"{place} was made with {key} {found[key]}, but the table now says {value}; delete it and all other "
                f"files of {cell.key} to run the cell again"
            )


SUMMARY_FIELDS = (
    "status",
    "model",
    "data",
    "recipe",
    "seed",
    "epochs",
    "steps",
    "parameters",
    "image_size_px",
    "best_epoch",
    "time_s",
    "images_per_s",
    "precision",
    "hardware",
    "versions",
    "date",
)


def test_at(size: int | None) -> str:
    """The record's key for the test split, at the network's own image size or at another one in pixels."""
    return "test" if size is None else f"test_{size}px"


def extra_measurements_of(record: dict[str, Any]) -> dict[str, Any]:
    """The measurements in a record beyond the run's summary, for any table."""
    return {key: value for key, value in record.items() if key == "responses" or re.fullmatch(r"test_\d+px", key)}


def write_record(places: Places, protocol: str, cell: Cell, summary: dict[str, Any], **more: Any) -> None:
    """What a table needs from a finished run: errors of each split, cost, hardware; no paths of the machine."""
    splits = {
        name: {key: part[key] for key in ("error_pct", "top5_error_pct", "loss", "images") if key in part}
        for name in ("train", "val", "test")
        if (part := summary.get(name))
    }
    settings = settings_of(cell.config)
    record = {"cell": cell.key, "protocol": protocol, "settings": settings, **{k: summary[k] for k in SUMMARY_FIELDS}}
    path = places.record_of(protocol, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps({**record, **splits, **more}, indent=1) + "\n").encode())


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Fields that differ from the configuration's defaults, without those of the machine."""
    plain, default = config.to_dict(), TrainConfig().to_dict()
    return {key: value for key, value in plain.items() if value != default[key] and key not in NOT_COMPARED}


@cache
def _macs(model: str, overrides: tuple[tuple[str, Any], ...], image_size: int) -> float:
    try:
        return float(ledger_row(model, image_size=image_size, **dict(overrides)).macs)
    except UserError:
        return float(ledger_row(model, image_size=image_size).macs)


def training_macs(cell: Cell) -> float:
    """Multiply-accumulates of the whole run, with a backward pass as two forward passes; an estimate of its cost."""
    config = cell.config
    size = 16 if config.data == "digits" else default_image_size(str(config.model))
    images = {"digits": 1300, "cifar10": 45_000, "cifar100": 45_000, "imagenet": 1_153_000}[config.data]
    if config.limit_train is not None:
        images = min(images, config.limit_train)
    seen = config.steps * config.batch_size if config.steps else (config.epochs or 0) * images
    overrides = tuple(sorted(config.network_overrides().items()))
    return 3.0 * seen * _macs(str(config.model), overrides, size)
