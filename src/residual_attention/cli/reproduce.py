"""``ran reproduce [TABLE...]``."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from ..errors import UserError
from ..experiments.slices import Slice
from ..plugins import FLAG, loaded
from .arguments import parse

DESCRIPTION = """The paper's tables, ours beside the paper's.

Without a TABLE, what there is and how far it is. With one or several (or `all`), the cells that are missing are run,
broken ones are gone on with, done ones skipped, and table, plot and page are written after each. A cell counts as done
while its JSON lies under --records; delete that and its run folder, and it alone is run again."""


@dataclass(frozen=True)
class ReproduceArguments:
    tables: tyro.conf.Positional[tuple[str, ...]] = ()
    """TABLE...: experiments by name, or all; none lists them."""
    only: tuple[str, ...] = ()
    """TEXT...: of each table only the rows that contain one of these, such as Attention-56; none: all rows."""
    protocol: Literal["smoke", "cpu", "paper", "modern"] = "smoke"
    """smoke: digits, about a minute a cell | cpu: 10,000 images of CIFAR, minutes | paper: as printed | modern."""
    seeds: int | None = None
    """Runs of each row; the protocol's own number by default."""
    records: Path = Path("results/reproduce")
    """Where tables and the small record of each cell are kept."""
    runs: Path = Path("runs/reproduce")
    """Where the cells' run folders lie."""
    cifar10: Path | None = None
    """Where CIFAR-10 lies (torchvision's layout or class folders); downloaded otherwise."""
    cifar100: Path | None = None
    """Where CIFAR-100 lies."""
    imagenet: Path | None = None
    """The folder that holds ImageNet's train/ and val/."""
    shard: str = "1/1"
    """i/n: this machine runs each n-th cell from the i-th on; cells are independent."""
    submit: int | None = None
    """Submit N jobs, a shard each, instead of running here (pip install 'residual-attention[cluster]')."""
    cluster: Literal["slurm", "local"] = "slurm"
    """Where --submit submits to: slurm | local (processes on this machine)."""
    hours: float = 24.0
    """Time of a submitted job; one that needs more saves, and is put in the queue again."""
    gpus: int = 1
    """GPUs of a submitted job."""
    slurm: tuple[str, ...] = ()
    """KEY=VALUE...: further options of sbatch for submitted jobs, such as partition=gpu account=vision."""
    logs: Path = Path("runs/submitted")
    """What submitted jobs print; on a disk that all machines see, as --records and --runs."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    dry_run: bool = False
    """Tell the cells, their state and the expected cost, and run nothing."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(ReproduceArguments, argv, prog="ran reproduce", description=DESCRIPTION)
    if given.seeds is not None and given.seeds < 1:
        raise UserError(f"seeds must be at least 1, not {given.seeds}")
    from ..experiments.cells import Places
    from ..experiments.declarations import EXPERIMENTS
    from ..experiments.protocols import PROTOCOLS
    from ..hints import did_you_mean

    part = Slice.parse(given.shard)
    places, seeds = Places(given.runs, given.records), given.seeds or PROTOCOLS[given.protocol].seeds
    names = list(EXPERIMENTS) if given.tables in ((), ("all",)) else list(given.tables)
    for name in names:
        if name not in EXPERIMENTS:
            close = did_you_mean(name, EXPERIMENTS)
            raise UserError(f"no table {name!r}{close}; there are {', '.join(EXPERIMENTS)}")
    chosen = [EXPERIMENTS[name] for name in names]
    if given.only and not any(_selected(given, row.label) for experiment in chosen for row in experiment.rows):
        labels = ", ".join(row.label for experiment in chosen for row in experiment.rows)
        raise UserError(f"--only {' '.join(given.only)}: no such row; there are {labels}")
    if given.submit is not None and not given.tables:
        raise UserError("--submit needs a TABLE, or all")
    if not given.tables:
        return _list(given, chosen, places, seeds)
    return _run(given, chosen, places, seeds, part)


def _selected(given: ReproduceArguments, label: str) -> bool:
    return not given.only or any(text.lower() in label.lower() for text in given.only)


def _list(given: ReproduceArguments, chosen: list[Any], places: Any, seeds: int) -> int:
    from ..experiments.runner import todo

    rows = []
    for experiment in chosen:
        cells = todo([experiment], given.protocol, places, seeds, {})
        done = sum(one.state == "done" for one in cells)
        rows.append({"table": experiment.name, "title": experiment.title, "cells": len(cells), "done": done})
    if given.json:
        print(json.dumps({"protocol": given.protocol, "tables": rows}))
        return 0
    width = max(len(row["table"]) for row in rows)
    for row in rows:
        count = f"{row['done']:3d}/{row['cells']:<3d}" if row["cells"] else "   –   "
        print(f"  {row['table']:<{width}}  {count} {given.protocol}  {row['title']}")
    print("\n`ran reproduce TABLE --protocol smoke|cpu|paper|modern` runs what is missing; --dry-run tells its cost.")
    return 0


def _run(given: ReproduceArguments, chosen: list[Any], places: Any, seeds: int, part: Slice) -> int:
    from ..experiments.pages import write_tables
    from ..experiments.runner import expected_s, is_complete, run_cells, todo
    from ..training.progress import duration

    say = (lambda _text: None) if given.json else print
    parts = [replace(e, rows=tuple(row for row in e.rows if _selected(given, row.label))) for e in chosen]
    cells = todo(parts, given.protocol, places, seeds, {"device": given.device}, part)
    cells = [_with_data_dir(one, given) for one in cells]
    left = [one for one in cells if not is_complete(one, given.protocol, places)]
    seconds, known = expected_s(cells, given.protocol, places)
    how = f"measured on {known} done" if known else "a guess: none has run yet"
    if given.submit is not None and not given.dry_run:
        cost = f"about {duration(seconds)} of one machine like this ({how})"
        return _submit(given, [any(one is other for other in left) for one in cells], cost)
    say(f"{len(cells)} cells, {len(cells) - len(left)} done; the rest takes about {duration(seconds)} here ({how})")

    if not cells:
        say(f"protocol {given.protocol} has none of these rows" if part.is_whole else "this shard has no cells")

    def write() -> list[str]:
        """Tables are drawn by whoever has all cells; a part of them leaves records alone."""
        if not part.is_whole:
            return []
        pages = [write_tables(experiment, given.protocol, places, seeds) for experiment in chosen]
        return [str(page) for page in pages if page is not None]

    if given.dry_run:
        for one in cells:
            say(f"  {one.state:<8} {one.cell.key}")
        if given.json:
            states = [{"cell": one.cell.key, "state": one.state} for one in cells]
            print(json.dumps({"cells": states, "expected_s": round(seconds)}))
        return 0
    try:
        run_cells(cells, given.protocol, places, say, write)
    finally:
        pages = write()  # a cell that was broken off is partial now
    if not part.is_whole:
        say(f"records in {places.records}; the same command without --shard draws the tables")
    if given.json:
        print(json.dumps({"protocol": given.protocol, "pages": pages}))
    for page in () if given.json else pages:
        print(page)
    return 0


def _submit(given: ReproduceArguments, left: list[bool], cost: str) -> int:
    """``left``: of every cell, whether it is to be run; a part without any of these is not submitted."""
    from ..experiments.submission import submit

    if given.shard != "1/1":
        raise UserError("--submit gives each job its own shard; leave --shard out")
    assert given.submit is not None
    if given.submit < 1:
        raise UserError(f"{given.submit} jobs cannot be submitted")
    if not any(left):
        raise UserError("there is no cell left to run; without --submit the tables are drawn")
    count = min(given.submit, len(left))
    parts = [Slice(i, count) for i in range(1, count + 1)]
    jobs = submit(
        _job_arguments(given),
        [part for part in parts if any(part.of(left))],
        given.logs.resolve(),
        cluster=given.cluster,
        hours=given.hours,
        gpus=given.gpus,
        slurm=given.slurm,
    )
    if given.json:
        print(json.dumps({"jobs": [{"id": job.id, "shard": str(job.part), "log": str(job.log)} for job in jobs]}))
        return 0
    print(f"{sum(left)} cells to run, {cost}")
    for job in jobs:
        print(f"  job {job.id}: shard {job.part}, {job.log}")
    print(
        "`ran reproduce` tells how far they are; when all are done, the same command without --submit draws the tables"
    )
    return 0


def _job_arguments(given: ReproduceArguments) -> list[str]:
    """The arguments that each job is called with; folders absolute, since a job starts elsewhere."""
    arguments = [*given.tables, "--protocol", given.protocol, "--device", given.device]
    arguments += [f"{FLAG}={plugin}" for plugin in loaded()]
    if given.only:
        arguments += ["--only", *given.only]
    if given.seeds is not None:
        arguments += ["--seeds", str(given.seeds)]
    for name, folder in {"records": given.records, "runs": given.runs, **_data_folders(given)}.items():
        if folder is not None:
            arguments += [f"--{name}", str(folder.resolve())]
    return arguments


def _data_folders(given: ReproduceArguments) -> dict[str, Path | None]:
    return {"cifar10": given.cifar10, "cifar100": given.cifar100, "imagenet": given.imagenet}


def _with_data_dir(one: Any, given: ReproduceArguments) -> Any:
    """The cell with the folder in which its data set lies."""
    folder = _data_folders(given).get(one.cell.config.data)
    return replace(one, cell=replace(one.cell, config=replace(one.cell.config, data_dir=folder)))
