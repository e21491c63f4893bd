"""Shards as jobs of a scheduler, through submitit (the extra ``cluster``); a job is the same command with its shard."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

NEEDED = "submission needs submitit: pip install 'residual-attention[cluster]'"
SIGNAL_S = 120  # before its time is over, a job is told so, and saves
SAVED = 143  # exit status of a run that SIGTERM ended
MOST_TIMES = 1000  # that a job whose time was over is put in the queue again


@dataclass(frozen=True)
class Job:
    """``id`` as the scheduler knows it; ``log`` is what the command prints."""

    id: str
    shard: str
    log: Path
    handle: Any


def _deaf_to_the_scheduler() -> None:
    """In the child: SIGUSR2 tells the job that its time is over, and may reach every process of it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class Shard:
    """``ran reproduce`` on one shard, in a process of its own.

    When the job's time is over or it is preempted, submitit calls `checkpoint`: the process is told to save, which it
    does at its next step, and the same shard is put in the queue again.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "residual_attention", "reproduce", *self.arguments]

    def __call__(self) -> int:
        self.process = subprocess.Popen(self.command(), preexec_fn=_deaf_to_the_scheduler)
        code = self.process.wait()
        if (
            code == SAVED
        ):  # the scheduler's SIGTERM reached it first; what follows is the signal that calls `checkpoint`
            time.sleep(SIGNAL_S)
        if code:
            raise RuntimeError(f"`ran reproduce {' '.join(self.arguments)}` ended with {code}")
        return 0

    def checkpoint(self) -> Any:
        """Called by a signal's handler in the midst of `__call__`, whose ``wait`` holds the lock of another."""
        import submitit

        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):  # it has been waited for already
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Shard(self.arguments))


def options_of(pairs: Sequence[str]) -> dict[str, str | int]:
    """``partition=gpu`` and the like; whole numbers become ones. Raises UserError for what is no pair."""
    found: dict[str, str | int] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (sign and key.isidentifier()):
            raise UserError(f"--slurm takes KEY=VALUE, such as partition=gpu, not {pair!r}")
        found[key] = int(value) if str(value).isdecimal() and str(int(value)) == value else value
    return found


def submit(
    arguments: Sequence[str],
    shards: Sequence[str],
    folder: Path,
    *,
    cluster: str = "slurm",
    hours: float = 24.0,
    gpus: int = 1,
    slurm: Sequence[str] = (),
) -> list[Job]:
    """One job a shard, ``i/n`` each.

    Args:
        arguments: those of ``ran reproduce`` without a shard.
        folder: where logs are kept, on a shared disk.
        cluster: slurm, or local (processes on this machine).
        hours: each job's time; one that needs more is put in the queue again and goes on.
        gpus: of each job; 0 for none.
        slurm: further options of ``sbatch``, KEY=VALUE.

    Raises:
        UserError: submitit is not installed, or what was asked for is not to be had; in one line.
    """
    if gpus < 0:
        raise UserError(f"a job cannot have {gpus} GPUs")
    if hours * 3600 < 2 * SIGNAL_S:
        raise UserError(f"a job of {hours} hours is too short: it is told to save {SIGNAL_S} s before its end")
    further = {f"slurm_{key}": value for key, value in options_of(slurm).items()}
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ModuleNotFoundError:
        raise UserError(NEEDED) from None
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster, slurm_max_num_timeout=MOST_TIMES)
        further = {"slurm_signal_delay_s": SIGNAL_S, **further}
        executor.update_parameters(name="reproduce", timeout_min=round(hours * 60), gpus_per_node=gpus, **further)
        with executor.batch():
            handles = [executor.submit(Shard([*arguments, "--shard", shard])) for shard in shards]
    except (RuntimeError, NameError, FailedJobError) as error:
        raise UserError(f"{cluster} did not take the jobs: {error}") from error
    return [Job(str(h.job_id), shard, h.paths.stdout, h) for h, shard in zip(handles, shards, strict=True)]
