"""A process of a distributed run that dies: the others say which, and a restart with ``--resume auto`` goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from residual_attention.checkpoints import read_checkpoint
from residual_attention.classification.config import TrainConfig
from residual_attention.errors import UserError
from residual_attention.tasks import train
from residual_attention.training import distributed

pytestmark = pytest.mark.slow  # run by `make test-slow`

THIN = (
    "train digits --steps 4 --limit-train 64 --batch-size 16 --widths 16 16 16 --mask-depths 1 1 1 --t 1 "
    "--precision fp32 --device cpu --checkpoint-steps 1 --learning plain"
)
LAUNCH = "-m torch.distributed.run --nproc-per-node 2 --standalone --max-restarts 2 -m residual_attention --"

DYING = """
import os, signal
from pathlib import Path
from residual_attention.training import loop

train_step, mark = loop.train_step, Path(os.environ["MARK"])

def dying(job, state, batch):
    if state.progress.step == 2 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(job, state, batch)

loop.train_step = dying
"""


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is tested on Unix")
def test_torchrun_restarts_a_run_that_lost_a_process(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    run = tmp_path / "run"
    extra = ["--out", str(run), "--resume", "auto", "--plugin", str(tmp_path / "dying.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MARK": str(tmp_path / "mark")}
    done = subprocess.run(
        [sys.executable, *LAUNCH.split(), *THIN.split(), *extra],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "mark").exists()
    assert "lost another process of this run: rank 1 (process" in done.stderr
    assert "resuming after step 2 of 4" in done.stdout
    progress = read_checkpoint(run / "checkpoints" / "last.safetensors")[1]["training"]["progress"]
    assert (progress["step"], progress["finished"]) == (4, True)
    assert (run / "report.html").is_file()


def test_torchrun_leaves_short_flags_to_us_after_two_dashes() -> None:
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(["-m", "residual_attention", "--", "train", "--p", "1"])
    assert given.training_script_args[-3:] == ["train", "--p", "1"]


def test_the_rank_that_ended_is_named() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host, pid = distributed._address()
    found = distributed._lost(RuntimeError("Connection closed by peer [127.0.0.1]:4"), [(host, pid), (host, ended.pid)])
    assert f"rank 1 (process {ended.pid} on {host}) has ended" in str(found)
    assert "--resume auto" in str(found)


def test_a_peer_on_another_machine_is_named_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "PATIENCE_S", 0.0)
    error = RuntimeError("[pair.cc:534] Connection closed by peer [10.0.0.7]:41235")
    assert "a process at 10.0.0.7 has not answered" in str(distributed._lost(error, [("elsewhere", 1)]))


def test_resume_auto_goes_on_in_its_own_folder_and_in_no_other(tiny_config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residual_attention.training.run.finish", lambda *_: {})
    config: TrainConfig = tiny_config(epochs=1, resume="auto")
    assert config.out is not None
    train(config)
    path = config.out / "checkpoints" / "last.safetensors"
    first = read_checkpoint(path)[1]["training"]["progress"]
    train(config)  # finished: nothing is trained again
    assert read_checkpoint(path)[1]["training"]["progress"]["step"] == first["step"]
    with pytest.raises(UserError, match=r"lr 0\.05, not 0\.5; choose another --out"):
        train(tiny_config(epochs=1, resume="auto", lr=0.5))
    with pytest.raises(UserError, match="already holds a run"):
        train(tiny_config(epochs=1))


def test_resume_auto_needs_to_know_the_folder(tiny_config) -> None:
    with pytest.raises(UserError, match="add --out"):
        train(tiny_config(resume="auto", out=None))
