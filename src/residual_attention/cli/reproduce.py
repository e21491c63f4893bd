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

DESCRIPTION = """Reproduce the paper's tables, our figures beside the paper's.

Without TABLE, list the tables and their progress. With one or more (or `all`), missing cells are run, interrupted ones
resumed, finished ones skipped, and table, plot and page are written after each. A cell is done if its JSON is under
--records; to run that cell again, delete the file and its run folder."""


@dataclass(frozen=True)
class ReproduceArguments:
    tables: tyro.conf.Positional[tuple[str, ...]] = ()
    """TABLE...: experiments by name, or all; without any, they are listed."""
    only: tuple[str, ...] = ()
    """Only the rows that contain one of these, such as Attention-56; all rows by default."""
    protocol: Literal["smoke", "cpu", "mini", "paper", "modern"] = "smoke"
    """smoke: digits, about a minute per cell | cpu: 10,000 images of CIFAR, minutes | mini: all of CIFAR at 16 px |
    paper: as printed | modern."""
    seeds: int | None = None
    """Runs per row; the protocol's own number by default."""
    records: Path = Path("results/reproduce")
    """Folder for the tables and the small record of each cell."""
    runs: Path = Path("runs/reproduce")
    """Folder for the cells' run folders."""
    cifar10: Path | None = None
    """Folder of CIFAR-10 (torchvision's layout or class folders); downloaded by default."""
    cifar100: Path | None = None
    """Folder of CIFAR-100."""
    imagenet: Path | None = None
    """Folder with ImageNet's train/ and val/."""
    shard: str = "1/1"
    """i/n: run every n-th cell, starting with the i-th; cells are independent."""
    submit: int | None = None
    """Submit N jobs, one shard each, instead of running here (pip install 'residual-attention[cluster]')."""
    cluster: Literal["slurm", "local"] = "slurm"
    """Target of --submit: slurm | local (processes on this machine)."""
    hours: float = 24.0
    """Time limit of a submitted job; a job that needs more saves and is requeued."""
    gpus: int = 1
    """GPUs per submitted job."""
    slurm: tuple[str, ...] = ()
    """More sbatch options for submitted jobs, such as partition=gpu account=vision."""
    logs: Path = Path("runs/submitted")
    """Folder for the output of submitted jobs; like --records and --runs, on a disk that all machines share."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    dry_run: bool = False
    """List the cells, their state and the expected cost; run nothing."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(ReproduceArguments, argv, prog="ran reproduce", description=DESCRIPTION)
    if given.seeds is not None and given.seeds < 1:
        raise UserError(f"seeds must be at least 1, not {given.seeds}")
    if given.submit is not None and given.submit < 1:
        raise UserError(f"submit must be at least 1, not {given.submit}")
    if given.hours <= 0:
        raise UserError(f"hours must be above 0, not {given.hours:g}")
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
            raise UserError(f"no table {name!r}{close}; choose from {', '.join(EXPERIMENTS)}")
    chosen = [EXPERIMENTS[name] for name in names]
    if given.only and not any(_selected(given, row.label) for experiment in chosen for row in experiment.rows):
        labels = ", ".join(row.label for experiment in chosen for row in experiment.rows)
        raise UserError(f"--only {' '.join(given.only)}: no such row; choose from {labels}")
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
    print("\n`ran reproduce TABLE --protocol smoke|cpu|paper|modern` runs missing cells; --dry-run shows their cost.")
    return 0


def _run(given: ReproduceArguments, chosen: list[Any], places: Any, seeds: int, part: Slice) -> int:
    from ..experiments.pages import write_tables
    from ..experiments.runner import expected_s, is_complete, run_cells, todo
    from ..training.duration import duration

    say = (lambda _text: None) if given.json else print
    parts = [replace(e, rows=tuple(row for row in e.rows if _selected(given, row.label))) for e in chosen]
    cells = todo(parts, given.protocol, places, seeds, {"device": given.device}, part)
    cells = [_with_data_dir(one, given) for one in cells]
    left = [one for one in cells if not is_complete(one, given.protocol, places)]
    seconds, known = expected_s(cells, given.protocol, places)
    how = f"based on {known} finished" if known else "a guess: none has finished yet"
    if given.submit is not None and not given.dry_run:
        cost = f"about {duration(seconds)} of one machine like this ({how})"
        return _submit(given, [any(one is other for other in left) for one in cells], cost)
    say(f"{len(cells)} cells, {len(cells) - len(left)} done; the rest takes about {duration(seconds)} here ({how})")

    if not cells:
        say(f"protocol {given.protocol} has none of these rows" if part.is_whole else "this shard has no cells")

    def write() -> list[str]:
        """Write the tables if this process has all cells; a shard only leaves records."""
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
        pages = write()  # an interrupted cell is now partial
    if not part.is_whole:
        say(f"records in {places.records}; run the same command without --shard to draw the tables")
    if given.json:
        print(json.dumps({"protocol": given.protocol, "pages": pages}))
    for page in () if given.json else pages:
        print(page)
    return 0


def _submit(given: ReproduceArguments, left: list[bool], cost: str) -> int:
    """``left`` says for each cell whether it has to be run; a shard with nothing to run is not submitted."""
    from ..experiments.submission import submit

    if given.shard != "1/1":
        raise UserError("--submit gives each job its own shard; drop --shard")
    assert given.submit is not None
    if not any(left):
        raise UserError("no cells left to run; run without --submit to draw the tables")
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
    print("`ran reproduce` shows their progress; when all are done, run it without --submit to draw the tables")
    return 0


def _job_arguments(given: ReproduceArguments) -> list[str]:
    """The arguments of each job; folders are absolute, since a job starts elsewhere."""
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
    """The cell with the folder of its data set."""
    folder = _data_folders(given).get(one.cell.config.data)
    return replace(one, cell=replace(one.cell, config=replace(one.cell.config, data_dir=folder)))
