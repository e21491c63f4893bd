"""A run stopped at any point, in any way, ends with exactly the weights of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import residual_attention.training.loop as loop
from residual_attention.checkpoints import read_checkpoint
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.task import ClassificationTask
from residual_attention.errors import UserError
from residual_attention.tasks import resume, train
from residual_attention.training.interrupt import Interrupted

STEPS = 12


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / f"{name}.safetensors")[0]


def assert_same(one: Path, other: Path) -> None:
    """All tensors (weights, averages, optimizer), best weights, kept masks, and the record of epochs without times."""
    for name in ("last", "best"):
        a, b = weights(one, name), weights(other, name)
        assert a.keys() == b.keys()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []
    kept = [{path.name: path.read_bytes() for path in (run / "development").iterdir()} for run in (one, other)]
    assert kept[0] == kept[1]
    rows = [[line.split(",")[:7] for line in (run / "metrics.csv").read_text().splitlines()] for run in (one, other)]
    assert rows[0] == rows[1]


@pytest.fixture
def without_report(monkeypatch):
    """Skip the evaluation and figures after the last step, which are tested elsewhere."""
    monkeypatch.setattr("residual_attention.training.run.finish", lambda *_: {})


def stop_at(monkeypatch, step: int, signum: signal.Signals) -> None:
    """Send this process a signal in the middle of the step after ``step`` completed ones."""
    train_step = loop.train_step

    def stopping(job, state, batch):
        if state.progress.step == step:
            os.kill(os.getpid(), signum)
        return train_step(job, state, batch)

    monkeypatch.setattr(loop, "train_step", stopping)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, Path]:
    return {"folder": tmp_path_factory.mktemp("uninterrupted")}


def reference(uninterrupted: dict[str, Path], name: str, config: TrainConfig) -> Path:
    """The uninterrupted run, created once for each kind."""
    if name not in uninterrupted:
        uninterrupted[name] = uninterrupted["folder"] / name
        train(replace(config, out=uninterrupted[name]))
    return uninterrupted[name]


@pytest.mark.parametrize("step", range(STEPS))
def test_a_signal_at_any_step(tiny_config, uninterrupted, without_report, monkeypatch, step):
    signum, code = [(signal.SIGTERM, 143), (signal.SIGINT, 130)][step % 2]
    config = tiny_config()
    expected = reference(uninterrupted, "digits", config)
    with monkeypatch.context() as patched:
        stop_at(patched, step, signum)
        with pytest.raises(Interrupted) as stopped:
            train(config)
    assert stopped.value.exit_code == code
    assert f"after step {step + 1}" in str(stopped.value)
    resume(config.out, json=True)
    assert_same(config.out, expected)


def test_masks_that_are_kept_for_the_report_change_nothing(tiny_config, uninterrupted, without_report, monkeypatch):
    expected = reference(uninterrupted, "digits", tiny_config())
    assert sorted(path.name for path in (expected / "development").iterdir()) == [
        f"epoch-0000{epoch}.safetensors" for epoch in (1, 2)
    ]
    monkeypatch.setattr(ClassificationTask, "keep", lambda *_: None)
    train(config := tiny_config())
    (config.out / "development").mkdir()
    for path in (expected / "development").iterdir():
        (config.out / "development" / path.name).write_bytes(path.read_bytes())
    assert_same(config.out, expected)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "lamb"])
def test_every_optimizers_state_is_kept(tiny_config, uninterrupted, without_report, monkeypatch, optimizer):
    config = tiny_config(optimizer=optimizer, lr=1e-3, schedule="plateau", patience=1, mixup=0.2)
    expected = reference(uninterrupted, optimizer, config)
    with monkeypatch.context() as patched:
        stop_at(patched, 8, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(config)
    resume(config.out, json=True)
    assert_same(config.out, expected)


@pytest.mark.parametrize("step, workers", [(1, 0), (4, 2)])
def test_decoded_files_with_any_number_of_workers(
    tiny_config, uninterrupted, without_report, monkeypatch, write_image_folder, tmp_path_factory, step, workers
):
    if "images" not in uninterrupted:
        uninterrupted["images"] = write_image_folder(tmp_path_factory.mktemp("data") / "images")
    config = tiny_config(
        data=str(uninterrupted["images"]), image_size=72, batch_size=6, limit_train=None, color_jitter=0.2, workers=0
    )
    expected = reference(uninterrupted, "files", config)
    with monkeypatch.context() as patched:
        stop_at(patched, step, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(replace(config, workers=workers))
    resume(config.out, workers=2 - workers, json=True)
    assert_same(config.out, expected)


def test_a_guided_run(tiny_config, without_report, monkeypatch, write_image_folder, tmp_path):
    root = write_image_folder(tmp_path / "images", size=32)
    guide = tmp_path / "boxes.json"
    guide.write_text(boxes := json.dumps({f"class00/{i}.png": [0, 0, 20, 30] for i in range(0, 12, 2)}))
    config = tiny_config(data=str(root), guide=guide, batch_size=6, limit_train=None)
    train(replace(config, out=tmp_path / "whole"))
    with monkeypatch.context() as patched:
        stop_at(patched, 2, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(config)
    guide.write_text(boxes.replace("20", "21"))
    with pytest.raises(UserError, match="the boxes or masks of its guide differ"):
        resume(config.out, json=True)
    guide.write_text(boxes)
    resume(config.out, json=True)
    assert_same(config.out, tmp_path / "whole")
    assert "train_energy_inside" in (config.out / "metrics.csv").read_text()


KILLED = """
import os, signal, sys
from pathlib import Path
import residual_attention.atomic as atomic
import residual_attention.training.loop as loop
from dataclasses import replace
from residual_attention.classification.config import TrainConfig
from residual_attention.tasks import train
import torch, yaml

config, where, count = TrainConfig.from_dict(yaml.safe_load(sys.argv[1])), sys.argv[2], int(sys.argv[3])
config = replace(config, out=Path(sys.argv[5]), json=True)
torch.set_num_threads(int(sys.argv[4]))
calls = 0

def dying(function, before):
    def wrapped(*arguments, **named):
        global calls
        calls += 1
        if calls == count and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

if where == "step":
    loop.train_step = dying(loop.train_step, before=False)
elif where == "written":
    atomic.os.fsync = dying(os.fsync, before=True)
elif where == "renamed":
    atomic.os.replace = dying(os.replace, before=False)
train(config)
"""


@pytest.mark.parametrize(
    "where, count",
    [("step", 5), ("written", 7), ("written", 12), ("renamed", 9)],
)
def test_kill_9_between_steps_and_during_a_save(tiny_config, uninterrupted, without_report, where, count):
    config = tiny_config(checkpoint_steps=2)
    expected = reference(uninterrupted, "digits-saving", config)
    threads = str(torch.get_num_threads())
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, config.to_yaml(), where, str(count), threads, str(config.out)],
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resume(config.out, json=True)
    assert_same(config.out, expected)
    assert not list(config.out.rglob("*.tmp"))


def test_a_finished_run_is_extended_to_what_a_longer_one_would_have_been(tiny_config, uninterrupted, without_report):
    config = tiny_config(schedule="constant", epochs=1)
    train(config)
    resume(config.out, epochs=2, json=True)
    assert_same(config.out, reference(uninterrupted, "constant", replace(config, epochs=2)))
    with pytest.raises(ValueError, match="2 epochs are already done"):
        resume(config.out, epochs=1)


def test_changed_data_are_noticed(tiny_config, without_report, monkeypatch, write_image_folder, tmp_path):
    folder = write_image_folder(tmp_path / "images")
    config = tiny_config(data=str(folder), image_size=32, limit_train=None, batch_size=6)
    with monkeypatch.context() as patched:
        stop_at(patched, 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(config)
    for path in sorted(folder.rglob("*.png"))[:6]:
        path.unlink()
    with pytest.raises(ValueError, match="has changed since"):
        resume(config.out)


def test_nothing_to_resume_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="no run folder at"):
        resume(tmp_path / "missing")
    with pytest.raises(ValueError, match="nothing to resume"):
        resume(tmp_path)


GROUP = """
import sys, yaml
from residual_attention.cli.main import main
import residual_attention.training.run as run
run.finish = lambda *_: {}
sys.argv[0] = "ran"
sys.exit(main(sys.argv[1:]))
"""


def test_a_signal_to_the_whole_process_group_saves_though_workers_get_it_too(write_image_folder, tmp_path):
    """As torchrun, GNU timeout and Slurm send it."""
    folder = write_image_folder(tmp_path / "images")
    thin = ["--widths", "16", "16", "16", "--mask-depths", "1", "1", "1", "--t", "1", "--batch-size", "6"]
    arguments = ["train", str(folder), "--image-size", "72", "--steps", "100000", "--workers", "2", *thin]
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", GROUP, *arguments, "--out", str(run), "--model", "attention56_cifar"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 2/" in line:
                break
        os.killpg(process.pid, signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(timeout=120) == 143, rest
    assert "saved; continue with" in rest
    read_checkpoint(run / "checkpoints" / "last.safetensors")


def test_a_run_that_stopped_early_stays_as_it_is_unless_extended(tiny_config, without_report, monkeypatch):
    config = tiny_config(epochs=6, early_stop=1)
    monkeypatch.setattr(loop, "_is_best", lambda error_pct, best_error_pct: best_error_pct is None)
    train(config)
    before = weights(config.out)
    assert read_checkpoint(config.out / "checkpoints" / "last.safetensors")[1]["metrics"]["epoch"] == 2
    resume(config.out, json=True)
    after = weights(config.out)
    assert all(torch.equal(before[key], after[key]) for key in before)
    resume(config.out, epochs=7, json=True)
    assert read_checkpoint(config.out / "checkpoints" / "last.safetensors")[1]["metrics"]["epoch"] == 3


def test_a_resume_elsewhere_finds_the_data_again(
    tiny_config, without_report, monkeypatch, write_image_folder, tmp_path
):
    folder = write_image_folder(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    config = tiny_config(data="images", image_size=32, limit_train=None, batch_size=6)
    with monkeypatch.context() as patched:
        stop_at(patched, 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(config.out, steps=3, json=True)
    folder.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="no data set or folder"):
        resume(config.out, epochs=2, json=True)
    resume(config.out, epochs=2, json=True, data=str(tmp_path / "moved"))
