"""Every system call of a save fails in turn, and the power goes in between: the old file or the new one, whole."""

import builtins
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import residual_attention.atomic as atomic
import residual_attention.checkpoints.format as form
from residual_attention.checkpoints.format import encode_checkpoint
from residual_attention.errors import UserError

from . import small
from .parts import Tally, Task

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
FULL = 200  # rounds of saves, each with another size
FULL_RUNS = 100  # runs with one fault


class Calls:
    """Counts the calls that a save makes, records them, and lets one of them fail."""

    def __init__(self, fail_at: int | None = None, number: int = errno.EIO) -> None:
        self.fail_at, self.number, self.made = fail_at, number, 0
        self.log: list[tuple[str, Any]] = []

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.made += 1
        if self.made - 1 == self.fail_at:
            raise OSError(self.number, os.strerror(self.number))
        self.log.append((name, arguments))
        return function(*arguments, **options)


class FaultyFile:
    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._file, name)
        if name not in ("write", "flush", "close", "truncate", "writelines"):
            return method
        return lambda *arguments: self._calls(name, method, *arguments)


class FaultyOs:
    """The module ``os`` with every call that touches a file counted."""

    COUNTED = ("open", "write", "fsync", "fdatasync", "replace", "rename", "close", "link")

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        value = getattr(os, name)
        if name not in self.COUNTED:
            return value
        return lambda *arguments, **options: self._calls(name, value, *arguments, **options)


@contextmanager
def injected(calls: Calls) -> Iterator[None]:
    """Saves in this process go through ``calls``."""

    def opened(*arguments: Any, **options: Any) -> Any:
        return FaultyFile(calls("open", builtins.open, *arguments, **options), calls)

    atomic.os, atomic.open = FaultyOs(calls), opened  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        atomic.os = os
        del atomic.open  # type: ignore[attr-defined]


def _content(seed: int) -> bytes:
    """A checkpoint of another content and size for each seed."""
    generator = torch.Generator().manual_seed(seed)
    return encode_checkpoint(
        {"model.a": torch.randn(1 + seed % 97, 3, generator=generator)}, {"model": f"number {seed}"}
    )


def _save(path: Path, content: bytes) -> None:
    """`save_checkpoint` of these bytes: encoding the same tensors twice orders the metadata differently."""
    before, form.encode_checkpoint = form.encode_checkpoint, lambda *_: content
    try:
        form.save_checkpoint(path, {}, {})
    finally:
        form.encode_checkpoint = before


def faults(task: Task) -> dict[str, Tally]:
    tallies = {"failing call": Tally(), "power loss": Tally()}
    path = task.folder / "last.safetensors"
    for number in task.part(0.3, "saves").numbers(FULL):
        old, new = _content(2 * number), _content(2 * number + 1)
        path.write_bytes(old)
        with injected(clean := Calls()):
            _save(path, new)
        for index, code in itertools.product(range(clean.made), ERRORS):
            _fail(tallies["failing call"], path, old, new, Calls(index, code))
        for state in power_losses(clean.log, old):
            good = state in (old, new)
            what = "old file" if state == old else "new file"
            tallies["power loss"].good(what) if good else tallies["power loss"].bad(f"save {number}: a torn file")
    return tallies | {"runs with a fault": _runs(task.part(0.6, "runs"))}


def _fail(tally: Tally, path: Path, old: bytes, new: bytes, calls: Calls) -> None:
    path.write_bytes(old)
    what = f"call {calls.fail_at}, {errno.errorcode[calls.number]}"
    try:
        with injected(calls):
            _save(path, new)
    except UserError:
        wanted, outcome = old, "refused, old file"
    except Exception as error:
        tally.bad(f"{what}: {type(error).__name__}: {error}")
        return
    else:
        wanted, outcome = new, "new file"  # the folder's own flush may fail
    if path.read_bytes() != wanted:
        tally.bad(f"{what}: not the whole file")
    elif list(path.parent.glob(".*.tmp")):
        tally.bad(f"{what}: a temporary file is left")
    else:
        tally.good(outcome)


def power_losses(log: list[tuple[str, Any]], old: bytes) -> Iterator[bytes]:
    """What the path may hold after the power went at any point of a save.

    Before the file's fsync any part of its data may be missing, in the middle too; a rename may reach the disk at once
    or not before the folder's fsync.
    """
    for moment in range(len(log) + 1):
        done = log[:moment]
        data = b"".join(bytes(arguments[0]) for name, arguments in done if name == "write")
        names = [name for name, _ in done]
        flushed = "fsync" in names or "fdatasync" in names
        states = [data] if flushed else [b"", data[: len(data) // 2], bytes(len(data)), data]
        renamed = any(name in ("replace", "rename") for name in names)
        yield old
        if renamed:
            yield from states


def _runs(task: Task) -> Tally:
    """A run in which one call of a save fails ends with one line, and goes on bit for bit once the disk works."""
    tally, random = Tally(), task.random
    expected = task.folder / "expected"
    small.undisturbed(small.thin(expected), task.folder / "log", small.without_pictures)
    for number in task.numbers(FULL_RUNS):
        run = task.folder / f"run-{number}"
        calls = Calls(random.randrange(60), random.choice(ERRORS))

        def failing(calls: Calls = calls) -> None:
            small.without_pictures()
            injected(calls).__enter__()

        log = task.folder / f"log-{number}"
        status = small.ended(small.trained(small.thin(run), log, failing))
        if status not in (0, 2):
            tally.bad(f"call {calls.fail_at}: exit {status}: {log.read_text()[-200:]}")
            continue
        if status == 2:
            status = small.ended(small.trained(small.thin(run), log, small.without_pictures))
        found = small.difference(run, expected) if status == 0 else f"exit {status}: {log.read_text()[-200:]}"
        tally.bad(f"call {calls.fail_at}: {found}") if found else tally.good("identical")
    return tally
