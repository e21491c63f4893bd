"""Two processes under torchrun: one run, the same weights on both, exact evaluation, a coordinated stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from residual_attention.checkpoints import read_checkpoint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is tested on Unix")

THIN = "--limit-train 96 --batch-size 16 --widths 16 16 16 --mask-depths 1 1 1 --t 1 --precision fp32 --device cpu"


def torchrun(*arguments: str) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return [*launch, "-m", "residual_attention", *arguments]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_processes_train_evaluate_and_write_once(tmp_path, environment):
    run = tmp_path / "run"
    done = subprocess.run(
        torchrun("train", "--epochs", "2", *THIN.split(), "--out", str(run), "--json"),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["processes"] == 2
    assert summary["steps"] == 12
    assert summary["test"]["images"] == 359  # odd: the replicas have unequal parts
    evaluated = subprocess.run(
        [sys.executable, "-m", "residual_attention", "eval", str(run), "--json"], capture_output=True, text=True
    )
    assert json.loads(evaluated.stdout)["top1_error_pct"] == pytest.approx(summary["test"]["error_pct"])


def test_a_signal_to_one_process_stops_and_saves_all(tmp_path, environment):
    run = tmp_path / "run"
    command = torchrun("train", "--epochs", "500", *THIN.split(), "--out", str(run))
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    metrics = run / "metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    assert metrics.exists(), (tmp_path / "log").read_text()
    workers = [int(pid) for pid in children(process.pid)]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGTERM)  # only rank 1
    process.wait(timeout=120)
    text = (tmp_path / "log").read_text()
    assert "saved; continue with `ran resume" in text, text
    progress = read_checkpoint(run / "checkpoints" / "last.safetensors")[1]["training"]["progress"]
    assert progress["step"] > 0
    assert f"after step {progress['step']} and saved" in text


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
