"""Jobs of ``ran reproduce --submit`` that the scheduler interrupts and queues again, through submitit."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from residual_attention.experiments.slices import Slice
from residual_attention.experiments.submission import Submission, submit

from . import launch, small
from .parts import Tally, Task

FULL = 10
HOURS = 0.25  # limit of one start of a job
SHORT = """
import time
from dataclasses import replace
from residual_attention.classification.recipes import recipe
from residual_attention.classification.results import ClassificationOutcome
from residual_attention.experiments import protocols
from residual_attention.training import loop

train_step = loop.train_step
ClassificationOutcome.draw = lambda *_: {}
THIN = {"widths": (16, 16, 16), "mask_depths": (1, 1, 1), "t": 1, "precision": "fp32"}

def slow(job, state, batch):
    time.sleep(0.3)
    return train_step(job, state, batch)

loop.train_step = slow
protocols._BASES["smoke"] = lambda _: replace(
    recipe("quick", "digits"), **THIN, epochs=None, steps=30, min_steps=0, batch_size=16, limit_train=96
)
"""


def _job(folder: Path, plugin: Path) -> Submission:
    arguments = ["trunks", "--only", "preact", "--protocol", "smoke", "--device", "cpu"]
    arguments += ["--records", str(folder / "records"), "--runs", str(folder / "runs"), "--plugin", str(plugin)]
    return submit(arguments, [Slice()], folder / "logs", cluster="local", gpus=0, hours=HOURS)[0]


def _run_of(folder: Path) -> Path:
    return next(path for path in sorted((folder / "runs").rglob("checkpoints"))).parent


def _lines(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.out"):
        yield from path.read_text(errors="replace").splitlines()


def _commands(job: Submission) -> list[int]:
    """The process of the job's command, if it runs: the controller starts a task, which starts it."""
    found = [pid for task in launch.children(int(job.id)) for pid in launch.children(task)]
    return [pid for pid in found if b"reproduce" in _argv(pid)]


def _argv(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _interrupt(job: Submission, after_s: float, but: int) -> int:
    """Signal every process of the job, as Slurm does, ``after_s`` its command started anew (not process ``but``).

    Returns the command's process number, 0 if the job ended first. submitit's own way, ``LocalJob._interrupt``, signals
    the controller, which stands for the scheduler and dies of it.
    """
    if not launch.waited(lambda: job.handle.done() or any(pid != but for pid in _commands(job))):
        raise TimeoutError(f"the job's command did not start within {launch.LIMIT_S} s")
    time.sleep(after_s)
    running = _commands(job)
    if job.handle.done() or not running:
        return 0
    launch.send(launch.descendants(int(job.id)), signal.SIGUSR2)
    return running[0]


def _end(job: Submission) -> None:
    """Wait for the job's result. Raises what it raised, and TimeoutError."""
    try:
        if not launch.waited(job.handle.done):
            raise TimeoutError(f"the job did not end within {launch.LIMIT_S} s")
        job.handle.result()
    finally:
        launch.end_all(job.handle._process)


def _interrupted(folder: Path, plugin: Path, delays_s: list[float]) -> int:
    """How often a job was interrupted before it ended. Raises what it raised, and TimeoutError."""
    job, sent, before = _job(folder, plugin), 0, 0
    try:
        for delay_s in delays_s:
            if not (before := _interrupt(job, delay_s, before)):
                break
            sent += 1
    finally:
        _end(job)
    return sent


def interrupted_jobs(task: Task) -> Tally:
    """submitit signals a job, which saves; it is queued again, and goes on."""
    tally, draw = Tally(), task.random
    plugin = task.folder / "short.py"
    plugin.write_text(SHORT)
    begun = time.monotonic()
    _end(_job(task.folder / "expected", plugin))
    whole_s, expected = time.monotonic() - begun, _run_of(task.folder / "expected")
    for number in task.numbers(FULL):
        folder = task.folder / f"jobs-{number}"
        delays_s = [draw.uniform(0, 0.7) * whole_s for _ in range(draw.randint(1, 3))]
        try:
            sent = _interrupted(folder, plugin, delays_s)
        except Exception as error:
            tally.bad(f"interrupted {', '.join(f'{s:.1f}' for s in delays_s)} s after each start: {error}")
            continue
        again = sum("Requeued job" in line for line in _lines(folder / "logs"))
        failure = small.difference(_run_of(folder), expected)
        if not failure and not 1 <= again == sent:
            failure = f"interrupted {sent} times"
        tally.bad(f"requeued {again} times: {failure}") if failure else tally.good(f"identical, requeued {again} times")
    return tally
