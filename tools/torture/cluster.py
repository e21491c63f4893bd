"""torchrun with ranks that are killed at random: it restarts them, and the tensors are those of an undisturbed run."""

import os
import subprocess
import sys
from pathlib import Path

from . import small
from .parts import Tally, Task

FULL = 30
STEPS, RANKS, RESTARTS = 6, 2, 3
ARGUMENTS = (
    f"train digits --steps {STEPS} --limit-train 48 --batch-size 16 --widths 16 16 16 --mask-depths 1 1 1 --t 1 "
    "--precision fp32 --device cpu --checkpoint-steps 1 --resume auto --json"
)
DYING = """
import os, signal
from residual_attention.classification.results import ClassificationOutcome
from residual_attention.training import loop

train_step = loop.train_step
ClassificationOutcome.draw = lambda *_: {}
deaths = [tuple(map(int, one.split(":"))) for one in os.environ["DEATHS"].split()]
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

def dying(job, state, batch):
    if attempt < len(deaths) and deaths[attempt] == (int(os.environ["RANK"]), state.progress.step):
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(job, state, batch)

loop.train_step = dying
"""


def _run(run: Path, plugin: Path, deaths: list[tuple[int, int]]) -> subprocess.CompletedProcess[str]:
    launch = f"-m torch.distributed.run --nproc-per-node {RANKS} --standalone --max-restarts {RESTARTS}"
    command = [sys.executable, *launch.split(), "-m", "residual_attention", "--", *ARGUMENTS.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DEATHS": " ".join(f"{rank}:{step}" for rank, step in deaths)}
    return subprocess.run(
        [*command, "--out", str(run), "--plugin", str(plugin)], capture_output=True, text=True, env=environment
    )


def cluster(task: Task) -> dict[str, Tally]:
    tally, random = Tally(), task.random
    plugin = task.folder / "dying.py"
    plugin.write_text(DYING)
    expected = task.folder / "expected"
    if (done := _run(expected, plugin, [])).returncode:
        tally.bad(f"undisturbed: {done.stderr[-500:]}")
        return {"killed ranks": tally}
    for number in task.numbers(FULL):
        run = task.folder / f"run-{number}"
        deaths = [(random.randrange(RANKS), random.randrange(STEPS)) for _ in range(random.randint(1, RESTARTS))]
        done = _run(run, plugin, deaths)
        failure = small.difference(run, expected) if done.returncode == 0 else done.stderr[-500:]
        tally.bad(f"deaths {deaths}: {failure}") if failure else tally.good(f"identical, {len(deaths)} planned deaths")
    return {"killed ranks": tally}
