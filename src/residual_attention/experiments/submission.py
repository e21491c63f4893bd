"""``ran reproduce`` as jobs of a scheduler, by submitit (the extra ``cluster``): each runs its slice of the cells."""

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
from .slices import Slice

MISSING_SUBMITIT = "submission needs submitit: pip install 'residual-attention[cluster]'"
GRACE_S = 120  # a job is told to save this long before its time is up
TERMINATED = 143  # exit status of a run that SIGTERM ended
MAX_REQUEUES = 1000  # of a job whose time was up


@dataclass(frozen=True)
class Submission:
    """A job in the queue: ``id`` as the scheduler knows it, its ``part`` of the cells, ``log`` what it prints."""

    id: str
    part: Slice
    log: Path
    handle: Any


def _ignore_scheduler_signal() -> None:
    """In the child: SIGUSR2 tells the job that its time is up, and may reach every process of it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class ReproduceProcess:
    """``ran reproduce`` in a process of its own: the function that submitit calls in the job.

    When the job's time is up or it is preempted, submitit calls `checkpoint`: the process is told to save, which it
    does at its next step, and the same command goes back into the queue.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "residual_attention", "reproduce", *self.arguments]

    def __call__(self) -> int:
        self.process = subprocess.Popen(self.command(), preexec_fn=_ignore_scheduler_signal)
        code = self.process.wait()
        if code == TERMINATED:  # by the scheduler itself; next comes the signal on which submitit calls `checkpoint`
            time.sleep(GRACE_S)
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
        return submitit.helpers.DelayedSubmission(ReproduceProcess(self.arguments))


def scheduler_options(pairs: Sequence[str]) -> dict[str, str | int]:
    """``partition=gpu`` and the like, whole numbers as int. Raises UserError for what is not KEY=VALUE."""
    found: dict[str, str | int] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (sign and key.isidentifier()):
            raise UserError(f"--slurm takes KEY=VALUE, such as partition=gpu, not {pair!r}")
        found[key] = int(value) if str(value).isdecimal() and str(int(value)) == value else value
    return found


def submit(
    arguments: Sequence[str],
    parts: Sequence[Slice],
    folder: Path,
    *,
    cluster: str = "slurm",
    hours: float = 24.0,
    gpus: int = 1,
    slurm: Sequence[str] = (),
) -> list[Submission]:
    """Put one job in the queue for each of ``parts``.

    Args:
        arguments: those of ``ran reproduce`` without ``--shard``.
        folder: where logs are kept, on a shared disk.
        cluster: slurm, or local (processes on this machine).
        hours: each job's time; one that needs more goes back into the queue and resumes.
        gpus: of each job; 0 for none.
        slurm: further options of ``sbatch``, KEY=VALUE.

    Raises:
        UserError: submitit is not installed, or the scheduler refuses the jobs.
    """
    if gpus < 0:
        raise UserError(f"a job cannot have {gpus} GPUs")
    if hours * 3600 < 2 * GRACE_S:
        raise UserError(f"a job of {hours} hours is too short: it is told to save {GRACE_S} s before its end")
    options = {f"slurm_{key}": value for key, value in scheduler_options(slurm).items()}
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ModuleNotFoundError:
        raise UserError(MISSING_SUBMITIT) from None
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster, slurm_max_num_timeout=MAX_REQUEUES)
        options = {"slurm_signal_delay_s": GRACE_S, **options}
        executor.update_parameters(name="reproduce", timeout_min=round(hours * 60), gpus_per_node=gpus, **options)
        with executor.batch():
            handles = [executor.submit(ReproduceProcess([*arguments, "--shard", str(part)])) for part in parts]
    except (RuntimeError, NameError, FailedJobError) as error:
        raise UserError(f"{cluster} did not take the jobs: {error}") from error
    return [Submission(str(h.job_id), part, h.paths.stdout, h) for h, part in zip(handles, parts, strict=True)]
