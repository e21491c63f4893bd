"""One cell is one run: its name, where it stands, and its record."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..atomic import write_atomically
from ..family.ledger import ledger_row
from ..training.config import TrainConfig
from .declarations import Experiment, Row
from .protocols import applies, configure, own_changes

State = Literal["not run", "partial", "done"]


@dataclass(frozen=True)
class Cell:
    """``key`` names what is run, not for which table: a cell that two tables need is run once."""

    key: str
    config: TrainConfig


@dataclass(frozen=True)
class Places:
    """``runs``: run folders, large, on this machine; ``records``: one small JSON a cell, tables, to be kept."""

    runs: Path
    records: Path

    def run_of(self, protocol: str, cell: Cell) -> Path:
        return self.runs / protocol / cell.key

    def record_of(self, protocol: str, cell: Cell) -> Path:
        return self.records / protocol / "cells" / f"{cell.key}.json"


def _key(row: Row, experiment: Experiment, protocol: str, seed: int) -> str:
    """``cifar10_attention56_cifar_learning-naive_seed0``; defaults are left out, so that equal cells have one name."""
    changes = [f"{k}-{v}" for k, v in sorted(own_changes(row).items())]
    recipe = [experiment.recipe] if experiment.recipe and protocol in ("paper", "modern") else []
    data = "digits" if protocol == "smoke" else row.data
    return "_".join([data, row.model, *recipe, *changes, f"seed{seed}"])


def cells_of(protocol: str, experiment: Experiment, row: Row, seeds: int, given: dict[str, Any]) -> list[Cell]:
    """The cells of a row, one a seed; none where the protocol leaves the row out."""
    if not applies(protocol, row):
        return []
    return [
        Cell(_key(row, experiment, protocol, seed), configure(protocol, experiment, row, seed, **given))
        for seed in range(seeds)
    ]


def state_of(places: Places, protocol: str, cell: Cell) -> State:
    """Done when it is on record, or its run is complete; partial when there is a checkpoint to go on from."""
    run = places.run_of(protocol, cell)
    if places.record_of(protocol, cell).is_file() or (run / "summary.json").is_file():
        return "done"
    return "partial" if (run / "checkpoints" / "last.safetensors").is_file() else "not run"


def read_record(places: Places, protocol: str, cell: Cell) -> dict[str, Any] | None:
    """The cell's record, or None. Raises ValueError for a damaged one."""
    path = places.record_of(protocol, cell)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError:
        raise ValueError(f"{path} is damaged; delete it, and the cell is recorded or run again") from None


KEPT = (
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


def write_record(places: Places, protocol: str, cell: Cell, summary: dict[str, Any], **more: Any) -> None:
    """What a table needs of a finished run: errors of each split, cost, hardware; nothing of the machine's paths."""
    splits = {
        name: {key: part[key] for key in ("error_pct", "loss", "images")}
        for name in ("train", "val", "test")
        if (part := summary.get(name))
    }
    changed = {k: v for k, v in _differing(cell.config).items() if k not in ("data_dir", "out", "json", "debug")}
    record = {"cell": cell.key, "protocol": protocol, "settings": changed, **{k: summary[k] for k in KEPT}}
    path = places.record_of(protocol, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps({**record, **splits, **more}, indent=1) + "\n").encode())


def _differing(config: TrainConfig) -> dict[str, Any]:
    """Fields that are not the configuration's defaults."""
    plain, default = config.to_dict(), replace(TrainConfig()).to_dict()
    return {key: value for key, value in plain.items() if value != default[key]}


@cache
def _macs(model: str, overrides: tuple[tuple[str, Any], ...], image_size: int) -> float:
    try:
        return float(ledger_row(model, image_size=image_size, **dict(overrides)).macs)
    except ValueError:
        return float(ledger_row(model, image_size=image_size).macs)


def training_macs(cell: Cell) -> float:
    """Multiply-accumulates of the whole run, counting a backward pass as two forward ones; a guide to its cost."""
    config = cell.config
    size = 16 if config.data == "digits" else 32
    images = {"digits": 1300, "cifar10": 45_000, "cifar100": 45_000}[config.data]
    if config.limit_train is not None:
        images = min(images, config.limit_train)
    seen = config.steps * config.batch_size if config.steps else (config.epochs or 0) * images
    overrides = tuple(sorted(config.network_overrides().items()))
    return 3.0 * seen * _macs(str(config.model), overrides, size)
