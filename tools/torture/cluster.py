"""A cluster that fails: ranks killed, a node that drops out, jobs that the scheduler interrupts.

Whatever happens, the run ends with the tensors of an undisturbed one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from residual_attention.checkpoints import read_checkpoint
from residual_attention.experiments.slices import Slice
from residual_attention.experiments.submission import submit

from . import small
from .parts import Tally, Task

FULL, FULL_NODES, FULL_REQUEUES = 30, 10, 10
STEPS, RANKS, RESTARTS = 6, 2, 3
LIMIT_S = 600  # of one run
ARGUMENTS = (
    f"train digits --steps {STEPS} --limit-train 48 --batch-size 16 --widths 16 16 16 --mask-depths 1 1 1 --t 1 "
    "--precision fp32 --device cpu --checkpoint-steps 1 --resume auto --json"
)
DYING = """
import os, signal, time
from residual_attention.classification.results import ClassificationOutcome
from residual_attention.training import loop

train_step = loop.train_step
ClassificationOutcome.draw = lambda *_: {}
deaths = [tuple(map(int, one.split(":"))) for one in os.environ["DEATHS"].split()]
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

def dying(job, state, batch):
    time.sleep(float(os.environ.get("STEP_S", "0")))
    if attempt < len(deaths) and deaths[attempt] == (int(os.environ["RANK"]), state.progress.step):
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(job, state, batch)

loop.train_step = dying
"""
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


def _command(launch: str, run: Path, plugin: Path) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", *launch.split(), "-m", "residual_attention", "--"]
    return [*start, *ARGUMENTS.split(), "--out", str(run), "--plugin", str(plugin)]


def _environment(deaths: list[tuple[int, int]], **more: str) -> dict[str, str]:
    planned = " ".join(f"{rank}:{step}" for rank, step in deaths)
    return {**os.environ, "OMP_NUM_THREADS": "1", "DEATHS": planned, **more}


def _run(run: Path, plugin: Path, deaths: list[tuple[int, int]]) -> subprocess.CompletedProcess[str]:
    launch = f"--nproc-per-node {RANKS} --standalone --max-restarts {RESTARTS}"
    command = _command(launch, run, plugin)
    return subprocess.run(command, capture_output=True, text=True, env=_environment(deaths), timeout=LIMIT_S)


def cluster(task: Task) -> dict[str, Tally]:
    plugin, expected = task.folder / "dying.py", task.folder / "expected"
    plugin.write_text(DYING)
    if (done := _run(expected, plugin, [])).returncode:
        (tally := Tally()).bad(f"undisturbed: {done.stderr[-500:]}")
        return {"killed ranks": tally}
    return {
        "killed ranks": _killed_ranks(task.part(0.5, "ranks"), plugin, expected),
        "a node that drops out": _lost_nodes(task.part(0.25, "nodes"), plugin, expected),
        "interrupted jobs": _interrupted_jobs(task.part(0.25, "jobs")),
    }


def _killed_ranks(task: Task, plugin: Path, expected: Path) -> Tally:
    """torchrun restarts the ranks."""
    tally, random = Tally(), task.random
    for number in task.numbers(FULL):
        run = task.folder / f"run-{number}"
        deaths = [(random.randrange(RANKS), random.randrange(STEPS)) for _ in range(random.randint(1, RESTARTS))]
        done = _run(run, plugin, deaths)
        failure = small.difference(run, expected) if done.returncode == 0 else done.stderr[-500:]
        tally.bad(f"deaths {deaths}: {failure}") if failure else tally.good(f"identical, {len(deaths)} planned deaths")
    return tally


NAMES = ("torture0", "torture1")
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)


@contextmanager
def _two_nodes() -> Iterator[None]:
    """Two network namespaces with a cable between them. Raises OSError where they cannot be made."""
    try:
        for name in NAMES:
            _ip(f"netns add {name}")
        _ip("link add {0} netns {0} type veth peer name {1} netns {1}".format(*NAMES))
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            _ip(f"-n {name} addr add {address}/24 dev {name}")
            _ip(f"-n {name} link set {name} up")
            _ip(f"-n {name} link set lo up")
    except subprocess.CalledProcessError as error:
        _remove_nodes()
        raise OSError(error.stderr) from error
    try:
        yield
    finally:
        _remove_nodes()


def _remove_nodes() -> None:
    for name in NAMES:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _node(number: int, run: Path, plugin: Path, log: Path) -> subprocess.Popen[bytes]:
    """torchrun on one node; the first has the meeting point."""
    launch = (
        f"--nnodes 2 --nproc-per-node 1 --max-restarts {RESTARTS} --rdzv-backend c10d "
        f"--rdzv-endpoint {ADDRESSES[0]}:29511 --rdzv-id {run.name} --local-addr {ADDRESSES[number]}"
    )
    environment = _environment([], GLOO_SOCKET_IFNAME=NAMES[number], STEP_S="1")
    command = ["ip", "netns", "exec", NAMES[number], *_command(launch, run, plugin)]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)


def _steps_done(run: Path) -> int:
    try:
        return read_checkpoint(run / "checkpoints" / "last.safetensors")[1]["training"]["progress"]["step"]
    except ValueError:
        return -1


def _kill_node(process: subprocess.Popen[bytes], name: str) -> None:
    """Every process of the node at once, as when its power goes."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)
    process.wait()


def _lose_and_return(run: Path, plugin: Path, log: Path, at: int) -> str | None:
    """What went wrong in a run whose second node disappears after step ``at`` and comes back."""
    first, second = _node(0, run, plugin, log), _node(1, run, plugin, log)
    deadline = time.monotonic() + LIMIT_S
    try:
        while _steps_done(run) < at:
            if time.monotonic() > deadline or first.poll() is not None:
                return f"did not reach step {at}: {log.read_text()[-300:]}"
            time.sleep(0.1)
        _kill_node(second, NAMES[1])
        time.sleep(2)
        second = _node(1, run, plugin, log)
        codes = [process.wait(max(1.0, deadline - time.monotonic())) for process in (first, second)]
        return None if codes == [0, 0] else f"exit {codes}: {log.read_text()[-300:]}"
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_S} s: {log.read_text()[-300:]}"
    finally:
        for process, name in ((first, NAMES[0]), (second, NAMES[1])):
            _kill_node(process, name)


def _lost_nodes(task: Task, plugin: Path, expected: Path) -> Tally:
    tally, random = Tally(), task.random
    if shutil.which("ip") is None or os.geteuid() != 0:
        tally.outcomes["not run: needs root and the command ip"] = 0
        return tally
    try:
        with _two_nodes():
            for number in task.numbers(FULL_NODES):
                run, log, at = task.folder / f"run-{number}", task.folder / f"log-{number}", random.randrange(STEPS - 1)
                failure = _lose_and_return(run, plugin, log, at) or small.difference(run, expected)
                tally.bad(f"lost after step {at}: {failure}") if failure else tally.good("identical")
    except OSError as error:
        tally.outcomes[f"not run: no network namespaces here ({error})"] = 0
    return tally


def _job(folder: Path, plugin: Path):
    arguments = ["trunks", "--only", "preact", "--protocol", "smoke", "--device", "cpu"]
    arguments += ["--records", str(folder / "records"), "--runs", str(folder / "runs"), "--plugin", str(plugin)]
    return submit(arguments, [Slice()], folder / "logs", cluster="local", gpus=0, hours=0.5)[0]


def _run_of(folder: Path) -> Path:
    return next(path for path in sorted((folder / "runs").rglob("checkpoints"))).parent


def _interrupted_jobs(task: Task) -> Tally:
    """submitit signals a job, which saves; it is queued again, and goes on."""
    tally, random = Tally(), task.random
    plugin = task.folder / "short.py"
    plugin.write_text(SHORT)
    begun = time.monotonic()
    _job(task.folder / "expected", plugin).handle.result()
    whole_s, expected = time.monotonic() - begun, _run_of(task.folder / "expected")
    for number in task.numbers(FULL_REQUEUES):
        folder, interruptions = task.folder / f"jobs-{number}", random.randint(1, 3)
        job = _job(folder, plugin)
        for _ in range(interruptions):
            time.sleep(random.uniform(0.3, 1) * whole_s)
            job.handle._interrupt()
        try:
            job.handle.result()
        except Exception as error:
            tally.bad(f"{interruptions} interruptions: {error}")
            continue
        again = sum(1 for line in _lines(folder / "logs") if "Requeued job" in line)
        failure = small.difference(_run_of(folder), expected)
        tally.bad(f"requeued {again} times: {failure}") if failure else tally.good(f"identical, requeued {again} times")
    return tally


def _lines(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.suffix in (".err", ".out"):
            yield from path.read_text(errors="replace").splitlines()
