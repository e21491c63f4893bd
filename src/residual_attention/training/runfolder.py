"""A run's folder: its lock, its files, and the checks made before training starts."""

import csv
import errno
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from ..atomic import remove_leftovers, write_atomically
from ..checkpoints.card import Card
from ..checkpoints.format import save_checkpoint
from ..errors import UserError, WriteError
from ..names import as_argument, printable
from ..own_files import LIST, data_folder_around
from .config import RunConfig


def default_run_path(data: str, model: str) -> Path:
    """``runs/<date-time>_<data>_<model>``."""
    name = re.sub(r"[^\w.-]+", "-", Path(data).name or "data")
    return Path("runs") / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{name}_{model}"


def keep_out_of_data(run: Path, config: RunConfig) -> None:
    """Raise UserError for a run folder inside the data folder, which is never written to. It may lie beside a list."""
    if (data := data_folder_around(run, (Path(config.data), getattr(config, "data_dir", None)))) is not None:
        raise UserError(
            f"the run folder {run} is inside the data folder {data}, which is never written to; choose another --out"
        )


BEGUN = frozenset({".lock", "checkpoints", "config.yaml", "problems.txt", "tensorboard"})  # before the first save


def _is_leftover(path: Path) -> bool:
    """Whether a write that was killed left the file, before or during the first save."""
    names = r"last\.safetensors|best\.safetensors|config\.yaml|problems\.txt"
    return re.fullmatch(rf"\.({names})\.\d+\.tmp", path.name) is not None


class RunInUse(UserError):
    """Another process is training in the folder."""


class RunFolder:
    """The folder's paths, and writing to them. Every file is replaced atomically, so a kill leaves no partial file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.csv"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.curves = path / "curves.png"
        self.confusion = path / "confusion.png"
        self.attention = path / "attention.png"
        self.sheets = path / "sheets"
        self.development = path / "development"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.safetensors"
        self.best = self.checkpoints / "best.safetensors"

    def refuse_a_run(self) -> None:
        """Raise UserError if the folder already holds a run."""
        if self.last.exists():
            raise UserError(
                f"{self.path} already holds a run; continue it with `ran resume {as_argument(self.path)}` "
                "or choose another --out"
            )

    def _refuse_files_of_others(self) -> None:
        """Raise UserError if the folder holds anything but what a run of ours that never began left."""
        if self.path.is_file() or (self.path.exists() and not self.path.is_dir()):
            raise UserError(f"{self.path} is not a folder; choose another --out")
        found = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        begun = self.checkpoints.is_dir() and all(_is_leftover(entry) for entry in self.checkpoints.iterdir())
        others = [name for name in found if not (begun and (name in BEGUN or _is_leftover(self.path / name)))]
        if others:
            raise UserError(
                f"{self.path} is not empty and is not a run (it holds {printable(others[0])}); choose another --out"
            )

    def create(self) -> None:
        """Create the folder. Raises UserError if it holds a run or files of others, or is not writable."""
        self.refuse_a_run()
        try:
            self._refuse_files_of_others()
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write the run folder {self.path}: {error.strerror}; choose another --out")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder and delete what a killed save left. Raises RunInUse if another process holds the lock."""
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunInUse(f"{self.path} is in use by another run; wait for it or choose another --out") from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            remove_leftovers(self.config, self.metrics, self.summary, self.report, self.last, self.best)
            remove_leftovers(self.path / "problems.txt", *(entry / LIST for entry in self.path.iterdir()))
            yield
        finally:
            lock.release()

    def check_space(self, checkpoint_bytes: int) -> None:
        """Raise UserError without space for ``last``, ``best``, a checkpoint being written, and 50 MiB of figures."""
        needed = 3 * checkpoint_bytes + 50 * 2**20
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise UserError(
                f"{self.path}: {free / 2**20:.0f} MiB free, but the run needs {needed / 2**20:.0f} MiB; "
                "free some space or choose another --out"
            )

    def write_text(self, path: Path, text: str) -> None:
        try:
            write_atomically(path, text.encode())
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise WriteError(f"cannot write {path}: {reason}") from error

    def write_metrics(self, history: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
        """Write metrics.csv; the task's ``columns`` go between those of every run."""
        buffer = io.StringIO()
        names = ("epoch", "step", "lr", *columns, "images_per_s", "time_s")
        writer: csv.DictWriter[str] = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        for row in history:
            writer.writerow({k: "" if v is None else f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self.write_text(self.metrics, buffer.getvalue())

    def write_summary(self, summary: dict[str, Any]) -> None:
        self.write_text(self.summary, json.dumps(summary, indent=2, allow_nan=False) + "\n")

    def save(self, path: Path, tensors: dict[str, Tensor], card: Card) -> None:
        """Write a checkpoint atomically. Raises WriteError and leaves an existing file unchanged."""
        save_checkpoint(path, tensors, card.to_header())


def open_run(path: Path) -> RunFolder:
    """The folder of an existing run. Raises UserError if there is none to resume."""
    folder = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"no run folder at {path}")
    if not folder.last.is_file():
        raise UserError(f"{path} is not a run folder (checkpoints/last.safetensors not found); nothing to resume")
    if not os.access(path, os.W_OK):
        raise UserError(f"cannot write the run folder {path}: no permission")
    return folder
