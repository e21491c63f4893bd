"""Shards as jobs: what is submitted, that a job's end of time saves its cell, and what is answered in a line."""

import json
import signal
import subprocess
import sys

import pytest

from residual_attention.cli.main import main
from residual_attention.experiments import submission
from residual_attention.experiments.submission import Shard, options_of, submit

submitit = pytest.importorskip("submitit")


def test_a_job_runs_the_command_on_its_shard(tmp_path):
    arguments = ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs"), "--dry-run"]
    jobs = submit(["trunks", *arguments], 2, tmp_path / "logs", cluster="local", gpus=0, hours=0.1)
    assert [job.shard for job in jobs] == ["1/2", "2/2"]
    assert [job.handle.result() for job in jobs] == [0, 0]
    texts = [job.log.read_text() for job in jobs]
    keys = [line.split()[-1] for text in texts for line in text.splitlines() if line.startswith("  not run")]
    assert sorted(keys) == sorted(
        f"digits_attention56_cifar{unit}_seed0"
        for unit in ("", "_unit-resnext", "_unit-inception", "_unit-vgg", "_unit-dense")
    )


def test_a_job_that_fails_says_so(tmp_path):
    (job,) = submit(["no-such-table"], 1, tmp_path / "logs", cluster="local", gpus=0)
    with pytest.raises(submitit.core.utils.FailedJobError, match="ended with 2"):
        job.handle.result()


def test_the_end_of_a_jobs_time_tells_its_process_and_asks_for_the_same_again():
    shard = Shard(["learning", "--shard", "1/2"])
    shard.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    again = shard.checkpoint()
    assert shard.process.returncode == -signal.SIGTERM
    assert again.function.arguments == ["learning", "--shard", "1/2"]
    assert again.function.process is None


def test_the_command_submits_with_absolute_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = {}

    def submitted(arguments, jobs, folder, **options):
        seen.update(arguments=arguments, folder=folder, **options)
        return [submission.Job(f"7_{i}", f"{i + 1}/{jobs}", folder / f"7_{i}.out", None) for i in range(jobs)]

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


def test_options_of_the_scheduler():
    assert options_of(["partition=gpu", "cpus_per_task=8"]) == {"partition": "gpu", "cpus_per_task": 8}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--submit", "0"], "0 jobs of 24.0 hours"),
        (["--submit", "2", "--shard", "1/2"], "leave --shard out"),
        (["--submit", "2", "--slurm", "partition"], "--slurm takes KEY=VALUE"),
        (["--submit", "2"], "slurm did not take the jobs: Could not detect"),
        (["--submit", "2", "--cluster", "local", "--slurm", "no_such=1"], "Unknown argument 'no_such'"),
    ],
)
def test_what_cannot_be_submitted_is_answered_in_a_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")  # no srun
    assert main(["reproduce", "best", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_submitit_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"residual-attention\[cluster\]"):
        submit(["best"], 1, tmp_path)
