"""Slices as jobs: what is submitted, how a job saves its cell at its time limit, which errors are one line."""

import json
import signal
import sys

import pytest

from residual_attention.cli.main import main
from residual_attention.experiments import runner, submission
from residual_attention.experiments.slices import Slice
from residual_attention.experiments.submission import ReproduceProcess, scheduler_options, submit

submitit = pytest.importorskip("submitit")


def test_a_job_runs_the_command_on_its_part(tmp_path):
    arguments = ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs"), "--dry-run"]
    parts = [Slice(1, 2), Slice(2, 2)]
    jobs = submit(["trunks", *arguments], parts, tmp_path / "logs", cluster="local", gpus=0, hours=0.1)
    assert [job.part for job in jobs] == parts
    assert [job.handle.result() for job in jobs] == [0, 0]
    texts = [job.log.read_text() for job in jobs]
    keys = [line.split()[-1] for text in texts for line in text.splitlines() if line.startswith("  not run")]
    assert sorted(keys) == sorted(
        f"digits_attention56_cifar{unit}_seed0"
        for unit in ("", "_unit-resnext", "_unit-inception", "_unit-vgg", "_unit-dense")
    )


def test_a_failed_job_is_reported(tmp_path):
    (job,) = submit(["no-such-table"], [Slice()], tmp_path / "logs", cluster="local", gpus=0)
    with pytest.raises(submitit.core.utils.FailedJobError, match="exited with status 2"):
        job.handle.result()


class Told(Exception):
    pass


SAVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
print("running", flush=True)
time.sleep(60)
"""


def test_at_its_time_limit_a_job_saves_in_the_middle_of_its_call_and_is_queued_again(monkeypatch):
    """As in submitit, the handler runs in the thread that waits for the process."""
    again = []

    def handler(_signum, _frame):
        again.append(process.checkpoint())
        raise Told

    process = ReproduceProcess(["learning", "--shard", "1/2"])
    monkeypatch.setattr(ReproduceProcess, "command", lambda self: [sys.executable, "-c", SAVES])
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2)
        with pytest.raises(Told):
            process()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert process.process is not None
    assert process.process.wait(timeout=5) == 143
    assert again[0].function.arguments == ["learning", "--shard", "1/2"]
    assert again[0].function.process is None


def test_the_process_ignores_the_schedulers_signal(monkeypatch):
    process = ReproduceProcess([])
    deaf = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2)"
    monkeypatch.setattr(ReproduceProcess, "command", lambda self: [sys.executable, "-c", deaf])
    assert process() == 0


@pytest.mark.parametrize(
    "ending, status",
    [("raise SystemExit(143)", 143), ("import os; os.kill(os.getpid(), 15)", -15)],
    ids=["after it saved", "in its first seconds"],
)
def test_a_process_that_the_scheduler_ended_itself_waits_to_be_asked(monkeypatch, ending, status):
    process, slept = ReproduceProcess([]), []
    monkeypatch.setattr(ReproduceProcess, "command", lambda self: [sys.executable, "-c", ending])
    monkeypatch.setattr(submission.time, "sleep", slept.append)
    with pytest.raises(RuntimeError, match=f"exited with status {status}"):
        process()
    assert slept == [submission.GRACE_S]
    assert process.checkpoint().function.arguments == []


def test_the_command_submits_with_absolute_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = {}

    def submitted(arguments, parts, folder, **options):
        seen.update(arguments=arguments, folder=folder, **options)
        return [submission.Submission(f"7_{i}", part, folder / f"7_{i}.out", None) for i, part in enumerate(parts)]

    monkeypatch.setattr(submission, "submit", submitted)
    command = ["reproduce", "best", "--seeds", "2", "--submit", "2", "--slurm", "partition=gpu", "account=x"]
    assert main([*command, "--json"]) == 0
    assert [job["shard"] for job in json.loads(capsys.readouterr().out)["jobs"]] == ["1/2", "2/2"]
    assert seen["slurm"] == ("partition=gpu", "account=x")
    assert seen["folder"] == tmp_path / "runs/submitted"
    arguments = seen["arguments"]
    assert arguments[arguments.index("--records") + 1] == str(tmp_path / "results/reproduce")
    assert arguments[arguments.index("--seeds") + 1] == "2"
    assert "--submit" not in arguments
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "2 cells to run, about" in text
    assert "job 7_1: shard 2/2" in text


def test_no_more_jobs_than_there_are_cells(tmp_path, monkeypatch, capsys):
    wanted: list[list[Slice]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submission, "submit", lambda arguments, parts, folder, **_: wanted.append(parts) or [])
    assert main(["reproduce", "best", "--submit", "5", "--json"]) == 0
    assert wanted == [[Slice()]]
    assert main(["reproduce", "--submit", "2"]) == 2
    assert "--submit needs a TABLE" in capsys.readouterr().err


def test_a_part_whose_cells_are_done_is_not_submitted(tmp_path, monkeypatch):
    wanted: list[list[Slice]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submission, "submit", lambda arguments, parts, folder, **_: wanted.append(parts) or [])
    monkeypatch.setattr(runner, "is_complete", lambda one, *_: one.cell.config.seed != 1)
    assert main(["reproduce", "best", "--seeds", "4", "--submit", "2", "--json"]) == 0
    assert wanted == [[Slice(2, 2)]]


def test_options_of_the_scheduler():
    found = scheduler_options(["partition=gpu", "cpus_per_task=8", "account=0123"])
    assert found == {"partition": "gpu", "cpus_per_task": 8, "account": "0123"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--submit", "0"], "submit must be at least 1, not 0"),
        (["--submit", "1", "--hours", "0.01"], "a job of 0.01 hours is too short"),
        (["--submit", "2", "--shard", "1/2"], "drop --shard"),
        (["--submit", "2", "--slurm", "partition"], "--slurm takes KEY=VALUE"),
        (["--submit", "2"], "slurm did not accept the jobs: Could not detect"),
        (["--submit", "2", "--cluster", "local", "--slurm", "no_such=1"], "Unknown argument 'no_such'"),
    ],
)
def test_what_cannot_be_submitted_is_answered_in_a_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")  # no srun
    assert main(["reproduce", "learning", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_submitit_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"residual-attention\[cluster\]"):
        submit(["best"], [Slice()], tmp_path)
