"""SIGKILL at any moment, then the same command again: the tensors of an undisturbed run. SIGTERM: saved, exit 143."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from residual_attention.training import results
from residual_attention.training.config import RunConfig

from . import small
from .faults import Calls, injected
from .parts import Tally, Task

FULL = {"at random": 400, "inside saves": 400, "while drawing": 80, "with workers": 80, "detection": 40}
FULL_SIGNALS = 200
MOST_KILLS = 3  # of one run, in a row
SAVE_CALLS = 150  # of an undisturbed run, about
FOR_THE_PROCESS = contextlib.ExitStack()
"""Keeps what is injected into a forked process: a context manager that nothing refers to is closed at once."""


def _kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Calls):
    """Kills the process before or after one call of a save."""

    def __call__(self, name, function, *arguments, **options):  # type: ignore[no-untyped-def]
        self.made += 1
        if self.made - 1 == self.fail_at and self.number:
            _kill_me()
        found = function(*arguments, **options)
        if self.made - 1 == self.fail_at:
            _kill_me()
        return found


def _inside_saves(call: int, before: bool) -> Callable[[], None]:
    def prepare() -> None:
        small.without_pictures()
        FOR_THE_PROCESS.enter_context(injected(Deadly(call, int(before))))

    return prepare


def _while_drawing(seconds: float) -> Callable[[], None]:
    def prepare() -> None:
        draw = results.draw

        def drawing(*arguments: Any) -> Any:
            threading.Timer(seconds, _kill_me).start()
            return draw(*arguments)

        results.draw = drawing

    return prepare


def _finish(config: RunConfig, log: Path, expected: Path, drawn: bool = False) -> str | None:
    """Run the command to its end; what is wrong with the result."""
    first = config.out == expected
    before = None if drawn else small.without_pictures
    status = small.undisturbed(config, log, before) if first else small.ended(small.trained(config, log, before))
    if status != 0:
        return f"exit {status}: {log.read_text()[-300:]}"
    run = config.out
    assert run is not None
    if left := [str(path.relative_to(run)) for path in run.rglob("*.tmp")]:
        return f"a temporary file is left: {', '.join(left)}"
    if not (run / "report.html").is_file():
        return "no report"
    return small.difference(run, expected)


def _killed_at(config: RunConfig, log: Path, seconds: float) -> bool:
    pid = small.trained(config, log, small.without_pictures)
    time.sleep(seconds)
    small.kill_group(pid)
    return small.ended(pid) == -signal.SIGKILL


def kills(task: Task) -> dict[str, Tally]:
    data, shapes = small.write_images(task.folder / "images"), small.write_boxes(task.folder / "boxes")
    configs: dict[str, Callable[[Path], RunConfig]] = dict.fromkeys(FULL, small.thin)
    configs["with workers"] = lambda out: small.files(out, data)
    configs["detection"] = lambda out: small.boxes(out, shapes)
    tallies = {}
    for kind in FULL:
        tallies[kind] = _of_kind(kind, configs[kind], task.part(1 / len(FULL), kind))
    return tallies


def _of_kind(kind: str, config_for: Callable[[Path], RunConfig], task: Task) -> Tally:
    tally, random = Tally(), task.random
    expected, log = task.folder / "expected", task.folder / "log"
    if failure := _finish(config_for(expected), log, expected):
        tally.bad(f"undisturbed: {failure}")
        return tally
    started = time.monotonic()
    small.ended(small.trained(config_for(task.folder / "timed"), log, small.without_pictures))
    whole_s = time.monotonic() - started
    kills = 0
    for number in task.numbers(FULL[kind]):
        config, log = config_for(task.folder / f"run-{number}"), task.folder / f"log-{number}"
        count = 0
        for _ in range(random.randint(1, MOST_KILLS)):
            if kind == "inside saves":
                prepare = _inside_saves(random.randrange(SAVE_CALLS), random.random() < 0.5)
                killed = small.ended(small.trained(config, log, prepare)) == -signal.SIGKILL
            elif kind == "while drawing":
                prepare = _while_drawing(random.uniform(0, 2.0))
                killed = small.ended(small.trained(config, log, prepare)) == -signal.SIGKILL
            else:
                killed = _killed_at(config, log, random.uniform(0, whole_s))
            count += killed
        kills += count
        if failure := _finish(config, log, expected):
            tally.bad(f"run {number}, {count} kills: {failure}")
        else:
            tally.good(f"identical after {count} kills")
    if kills == 0:
        tally.bad("no run was killed")
    return tally


def signals(task: Task) -> dict[str, Tally]:
    """SIGTERM at any time: exit 143 (or the end, when it came too late), and the same command finishes the run."""
    tally, random = Tally(), task.random
    expected, log = task.folder / "expected", task.folder / "log"
    if failure := _finish(small.thin(expected), log, expected, drawn=True):
        tally.bad(f"undisturbed: {failure}")
        return {"SIGTERM": tally}
    started = time.monotonic()
    small.ended(small.trained(small.thin(task.folder / "timed"), log))
    whole_s = time.monotonic() - started
    for number in task.numbers(FULL_SIGNALS):
        run, log = task.folder / f"run-{number}", task.folder / f"log-{number}"
        pid = small.trained(small.thin(run), log)
        time.sleep(random.uniform(0, whole_s))
        os.kill(pid, signal.SIGTERM)
        status = small.ended(pid)
        begun = (run / "checkpoints" / "last.safetensors").is_file()
        # Before the run is set up nothing is there to save, and SIGTERM has its usual effect.
        if status not in (0, 143, -signal.SIGTERM) or (status == -signal.SIGTERM and begun and not _over(run)):
            tally.bad(f"run {number}: exit {status}: {log.read_text()[-300:]}")
            continue
        failure = _finish(small.thin(run), log, expected, drawn=True)
        if failure is None and json.loads((run / "summary.json").read_text())["status"] != "done":
            failure = "not done"
        outcome = {0: "came too late", 143: "saved, exit 143"}.get(status, "before the first save")
        tally.bad(f"run {number}: {failure}") if failure else tally.good(outcome)
    return {"SIGTERM": tally}


def _over(run: Path) -> bool:
    return (run / "report.html").is_file()
