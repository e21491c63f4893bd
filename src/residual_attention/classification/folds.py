"""Cross-validation: K runs of one configuration, each tested on another part of the data, and what they say together.

Each fold is the test split of one run. Its best epoch is chosen on validation images that are held out of the other
folds, so nothing is chosen on the images that the error is measured on. A test split that the data give is left out of
all of this.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..data.folding import FOLDS_NEED
from ..data.listing import list_images
from ..data.sources import SOURCES
from ..data.table import is_list
from ..documents import blaming, parse_json
from ..errors import UserError
from ..names import as_argument, printable
from ..training import run as core
from ..training.interrupt import Interrupted, SignalWatch
from ..training.plan import absolute
from ..training.runfolder import RunFolder, default_run_path, keep_out_of_data
from ..training.same_run import check_same_run
from .config import TrainConfig
from .fold_results import STATE, Folds, collected, is_done, is_folds, run_of
from .folds_page import PAGE, write_folds_page
from .task import ENTRY

SAME = ("data", "folds", "model", "seed", "recipe")


def train_folds(config: TrainConfig) -> dict[str, Any]:
    """Train each fold in ``<out>/fold<k>``, then write ``folds.json`` and ``report.html``; returns the former.

    Raises like `training.run.train`; an interrupted call goes on with `resume_folds`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--folds trains one run after another in one process; start a job for each with --fold K")
    assert config.folds is not None
    if config.resume == "auto" and config.out is None:
        raise UserError("--resume auto needs the folder: add --out")
    folder = config.out or default_run_path(config.data, f"{config.folds}-folds")
    if is_folds(folder):
        if config.resume != "auto":
            raise UserError(
                f"{folder} already holds folds; continue them with `ran resume {as_argument(folder)}` "
                "or choose another --out"
            )
        _check_same(config, folder)
        return resume_folds(folder, track=config.track, json=config.json, debug=config.debug)
    keep_out_of_data(folder, config)
    data = config.data if config.data in SOURCES else absolute(config.data)
    config = replace(config, data=data, guide=None if config.guide is None else config.guide.resolve())
    _check_one_class(config)
    _check_folder(folder, config)
    return _train_rest(folder, replace(config, resume="no"), {})


def resume_folds(
    folder: Path, *, track: str | None = None, json: bool = False, debug: bool = False, **changes: Any
) -> dict[str, Any]:
    """Go on with the folds that are not finished. ``changes`` are those of `training.run.reopen`.

    Raises UserError for a damaged ``folds.json``, and for a new length: a fold is extended by itself.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if longer := {"epochs", "steps"} & given.keys():
        raise UserError(
            f"--{min(longer)}: folds are extended one by one, as in `ran resume {as_argument(folder / 'fold1')}`"
        )
    with _blamed(folder):
        config = TrainConfig.from_dict({**_read(folder)["config"], **given})
    return _train_rest(folder, replace(config, track=track, json=json, debug=debug), given)  # type: ignore[arg-type]


def report_folds(folder: Path) -> Path:
    """Rewrite ``report.html`` from the runs' summaries. Raises UserError if none is finished."""
    with _blamed(folder):
        found = collected(folder, TrainConfig.from_dict(_read(folder)["config"]))
    if found.together is None:
        raise UserError(f"no fold in {folder} is finished; continue them with `ran resume {as_argument(folder)}`")
    page = write_folds_page(folder, found)
    assert page is not None
    return page


@contextmanager
def _blamed(folder: Path) -> Iterator[None]:
    with blaming(f"{folder / STATE} or a fold's summary.json is damaged"):
        yield


def _read(folder: Path) -> dict[str, Any]:
    found = parse_json((folder / STATE).read_bytes(), folder / STATE)
    if not isinstance(found, dict):
        raise UserError(f"{folder / STATE} is damaged: expected a JSON object")
    return found


def _check_same(config: TrainConfig, folder: Path) -> None:
    """Raise UserError if the folder's folds were begun with other settings, by the main ones."""
    with _blamed(folder):
        begun = _read(folder)["config"]
        for name in SAME:
            asked, had = getattr(config, name), begun.get(name)
            if name == "data" and asked not in SOURCES:
                asked = absolute(asked)
            if asked != had:
                raise UserError(f"{folder} holds folds with {name} {had}, not {asked}; choose another --out")


def _check_one_class(config: TrainConfig) -> None:
    """Raise UserError for a multi-label list, before a fold is announced."""
    path = Path(config.data)
    if config.data not in SOURCES and is_list(path) and list_images(path).several:
        raise UserError(f"{printable(path)} has several labels per image; {FOLDS_NEED}")


def _check_folder(folder: Path, config: TrainConfig) -> None:
    """Raise UserError if the folder holds anything else than, with ``--resume auto``, runs of these folds that jobs of
    their own have trained."""
    assert config.folds is not None
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder; choose another --out")
    ours = {run_of(folder, number): number for number in range(1, config.folds + 1)}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        begun = RunFolder(path).last.is_file()
        if path not in ours or (begun and config.resume != "auto"):
            raise UserError(f"{folder} is not empty (it holds {printable(path.name)}); choose another --out")
        if begun:
            check_same_run(replace(config, fold=ours[path]), path)


def _train_rest(folder: Path, config: TrainConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Train what is not finished, in order. The first signal stops the fold that it meets, or comes between two."""
    assert config.folds is not None
    with SignalWatch() as signals:
        for number in range(1, config.folds + 1):
            run = run_of(folder, number)
            if is_done(run):
                continue
            _say(config, f"fold {number} of {config.folds}")
            try:
                _train_one(folder, run, replace(config, fold=number, out=run), changes)
            except Interrupted as stop:
                where = f"stopped in fold {number} of {config.folds} and saved"
                stop.args = (f"{where}; continue with `ran resume {as_argument(folder)}`",)
                raise
            _written(folder, config)
            if signals.received and number < config.folds:
                where = f"stopped after fold {number} of {config.folds}"
                raise Interrupted(signals.received, f"{where}; continue with `ran resume {as_argument(folder)}`")
    found = _written(folder, config)
    for line in _lines(folder, found):
        _say(config, line)
    return asdict(found)


def _train_one(folder: Path, run: Path, config: TrainConfig, changes: Mapping[str, Any]) -> None:
    if RunFolder(run).last.is_file():
        core.resume(run, ENTRY, track=config.track, json=config.json, debug=config.debug, **changes)
        return
    with core.begin(config, ENTRY) as started:
        if not is_folds(folder):  # from here on there is something to resume
            _write(folder, collected(folder, config))
        core.complete(started)


def _say(config: TrainConfig, text: str) -> None:
    if not config.json:
        print(printable(text), flush=True)


def _write(folder: Path, found: Folds) -> None:
    write_atomically(folder / STATE, (json.dumps(asdict(found), indent=2) + "\n").encode())


def _written(folder: Path, config: TrainConfig) -> Folds:
    found = collected(folder, config)
    _write(folder, found)
    write_folds_page(folder, found)
    return found


def _lines(folder: Path, found: Folds) -> list[str]:
    together = found.together
    assert together is not None
    assert together.std_error_pct is not None
    assert together.mean_interval_pct is not None
    low, high = together.mean_interval_pct
    first, last = together.pooled_interval_pct
    return [
        "",
        f"{found.folds} folds  error {together.mean_error_pct:.2f} % on average, standard deviation "
        f"{together.std_error_pct:.2f} points (95 % of the mean: {low:.1f} to {high:.1f})",
        f"pooled   error {together.pooled_error_pct:.2f} % of {together.images:,} images, each predicted out of fold "
        f"(95 %: {first:.1f} to {last:.1f})",
        f"report   {folder / PAGE}",
    ]
