"""torchrun and what it starts: the command, deaths that are planned, and an end for all of it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

STEPS, RESTARTS = 6, 3
LIMIT_S = 600  # of one run
POLL_S = 0.1
AT_START, AT_MEETING = -2, -1  # in place of a step: before the process looks for the others, and once it has found them
ARGUMENTS = (
    f"train digits --steps {STEPS} --limit-train 48 --batch-size 16 --widths 16 16 16 --mask-depths 1 1 1 --t 1 "
    "--precision fp32 --device cpu --checkpoint-steps 1 --resume auto --json"
)
DYING = """
import os, signal, time
from pathlib import Path
from residual_attention.classification.results import ClassificationOutcome
from residual_attention.training import distributed, loop

train_step, meet = loop.train_step, distributed.meet
ClassificationOutcome.draw = lambda *_: {}
deaths = [tuple(map(int, one.split(":"))) for one in os.environ["DEATHS"].split()]
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

def die_if_planned(step):
    if attempt < len(deaths) and deaths[attempt] == (int(os.environ["RANK"]), step):
        with open(os.environ["DIED"], "a") as died:
            died.write(f"{os.environ['RANK']} {step} {os.getpid()}\\n")
        os.kill(os.getpid(), signal.SIGKILL)

def dying(job, state, batch):
    time.sleep(float(os.environ.get("STEP_S", "0")))
    die_if_planned(state.progress.step)
    return train_step(job, state, batch)

def meeting(*arguments):
    met = meet(*arguments)
    die_if_planned(-1)
    return met

loop.train_step, distributed.meet = dying, meeting
die_if_planned(-2)
"""


def command(launch: str, run: Path, plugin: Path) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", *launch.split(), "-m", "residual_attention", "--"]
    return [*start, *ARGUMENTS.split(), "--out", str(run), "--plugin", str(plugin)]


def environment(run: Path, deaths: list[tuple[int, int]], **more: str) -> dict[str, str]:
    planned = " ".join(f"{rank}:{step}" for rank, step in deaths)
    return {**os.environ, "OMP_NUM_THREADS": "1", "DEATHS": planned, "DIED": str(died(run)), **more}


def died(run: Path) -> Path:
    """Where a run's processes note their deaths, one a line: rank, step, process number."""
    return run.with_name(f"{run.name}-died")


def tail(log: Path) -> str:
    """The last of what we and torchrun say of failures in a log, or else its last lines."""
    lines = log.read_text(errors="replace").splitlines()
    telling = [line for line in lines if line.startswith("ran: ") or "failed (exitcode" in line]
    return " | ".join((telling or lines)[-2:])[-250:]


def waited(ready: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    """Whether something came true within the limit."""
    deadline = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def children(pid: int) -> list[int]:
    """A process's children, none once it has ended."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


def send(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def end_all(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started, in sessions of their own or not."""
    send([process.pid, *descendants(process.pid)] if process.poll() is None else [], signal.SIGKILL)
    process.wait()
