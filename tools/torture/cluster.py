"""A cluster that fails: ranks killed, a node that drops out, jobs that the scheduler interrupts.

Whatever happens, the run ends with the tensors of an undisturbed one.
"""

import random
import subprocess
from pathlib import Path

from . import launch, small
from .jobs import interrupted_jobs
from .launch import AT_START, RESTARTS, STEPS
from .nodes import lost_nodes
from .parts import Tally, Task

FULL, RANKS = 30, 2


def cluster(task: Task) -> dict[str, Tally]:
    plugin, expected = task.folder / "dying.py", task.folder / "expected"
    plugin.write_text(launch.DYING)
    if failure := _run(expected, plugin, []):
        (tally := Tally()).bad(f"undisturbed: {failure}")
        return {"killed ranks": tally}
    return {
        "killed ranks": _killed_ranks(task.part(0.5, "ranks"), plugin, expected),
        "a node that drops out": lost_nodes(task.part(0.25, "nodes"), plugin, expected),
        "interrupted jobs": interrupted_jobs(task.part(0.25, "jobs")),
    }


def _run(run: Path, plugin: Path, deaths: list[tuple[int, int]]) -> str | None:
    """What went wrong in a run under torchrun whose ranks die as planned."""
    log = run.with_name(f"{run.name}-log")
    command = launch.command(f"--nproc-per-node {RANKS} --standalone --max-restarts {RESTARTS}", run, plugin)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=launch.environment(run, deaths))
    try:
        code = process.wait(launch.LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"did not end within {launch.LIMIT_S} s: {launch.tail(log)}"
    finally:
        launch.end_all(process)
    return None if code == 0 else f"exit {code}: {launch.tail(log)}"


def _plan(draw: random.Random) -> list[tuple[int, int]]:
    """Rank and step of each attempt's death; the steps rise, so that each is reached."""
    deaths = [(draw.randrange(RANKS), draw.randrange(AT_START, STEPS)) for _ in range(draw.randint(1, RESTARTS))]
    return sorted(deaths, key=lambda death: death[1] if death[1] >= 0 else draw.randrange(STEPS))


def _killed_ranks(task: Task, plugin: Path, expected: Path) -> Tally:
    """torchrun restarts the ranks. Whoever is left names the rank that died in a step."""
    tally, draw = Tally(), task.random
    for number in task.numbers(FULL):
        run = task.folder / f"run-{number}"
        deaths = _plan(draw)
        failure = _run(run, plugin, deaths) or small.difference(run, expected)
        died = launch.died(run).read_text().splitlines() if launch.died(run).is_file() else []
        if failure is None and len(died) != len(deaths):
            failure = f"{len(died)} of {len(deaths)} deaths took place"
        failure = failure or _unnamed(run, died)
        tally.bad(f"deaths {deaths}: {failure}") if failure else tally.good(f"identical after {len(died)} deaths")
    return tally


def _unnamed(run: Path, died: list[str]) -> str | None:
    """The deaths within steps that the other rank did not name."""
    log = run.with_name(f"{run.name}-log").read_text(errors="replace")
    named = [(rank, step) for rank, step, pid in map(str.split, died) if f"rank {rank} (process {pid} on" in log]
    unnamed = [line for line in died if int(line.split()[1]) >= 0 and tuple(line.split()[:2]) not in named]
    return f"not named by the other: {', '.join(unnamed)}" if unnamed else None
