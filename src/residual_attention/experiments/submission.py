"""``ran reproduce`` as scheduler jobs, through submitit (the extra ``cluster``): each job runs a slice of the cells."""

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
GRACE_S = 120  # jobs get the signal to save this long before their time limit
TERMINATED = (143, -signal.SIGTERM)  # a run that SIGTERM ended; the second if it came before the run could handle it
MAX_REQUEUES = 1000  # for a job that reached its time limit


@dataclass(frozen=True)
class Submission:
    """A job in the queue: ``id`` as the scheduler knows it, its ``part`` of the cells, ``log`` its output."""

    id: str
    part: Slice
    log: Path
    handle: Any


def _ignore_scheduler_signal() -> None:
    """In the child: SIGUSR2 announces the job's time limit and may reach every process of the job."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class ReproduceProcess:
    """``ran reproduce`` in its own process: the function that submitit calls in the job.

    When the job reaches its time limit or is preempted, submitit calls `checkpoint`: the process is signalled to save,
    does so at its next step, and the same command is queued again.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        return [sys.executable, "-m", "residual_attention", "reproduce", *self.arguments]

    def __call__(self) -> int:
        self.process = subprocess.Popen(self.command(), preexec_fn=_ignore_scheduler_signal)
        code = self.process.wait()
        if code in TERMINATED:  # by the scheduler; then comes the signal on which submitit calls `checkpoint`
            time.sleep(GRACE_S)
        if code:
            raise RuntimeError(f"`ran reproduce {' '.join(self.arguments)}` exited with status {code}")
        return 0

    def checkpoint(self) -> Any:
        """Called by a signal handler in the middle of `__call__`, whose ``wait`` holds the lock on waiting."""
        import submitit

        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):  # it has already been reaped
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(ReproduceProcess(self.arguments))


def scheduler_options(pairs: Sequence[str]) -> dict[str, str | int]:
    """``partition=gpu`` and the like, whole numbers as int. Raises UserError for anything but KEY=VALUE."""
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
    """Queue one job for each of ``parts``.

    Args:
        arguments: the arguments of ``ran reproduce``, without ``--shard``.
        folder: for the logs, on a shared disk.
        cluster: slurm, or local (processes on this machine).
        hours: time limit per job; a job that needs more is queued again and resumes.
        gpus: per job; 0 for none.
        slurm: additional ``sbatch`` options, KEY=VALUE.

    Raises:
        UserError: submitit is not installed, or the scheduler refuses the jobs.
    """
    if gpus < 0:
        raise UserError(f"a job cannot have {gpus} GPUs")
    if hours * 3600 < 2 * GRACE_S:
        raise UserError(f"a job of {hours} hours is too short: the signal to save comes {GRACE_S} s before its end")
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
        raise UserError(f"{cluster} did not accept the jobs: {error}") from error
    return [Submission(str(h.job_id), part, h.paths.stdout, h) for h, part in zip(handles, parts, strict=True)]
