"""What a run writes, what it refuses, and what stops it."""

import csv
import errno
import fcntl
import json
import math
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import residual_attention.classification.task as classification
import residual_attention.training.loop as loop
import residual_attention.training.step as step
from residual_attention import load
from residual_attention.checkpoints import read_checkpoint
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.evaluate import evaluate_model
from residual_attention.classification.report import write_report
from residual_attention.data.images import ImageError
from residual_attention.data.load import load_dataset
from residual_attention.tasks import resume, train
from residual_attention.training.distributed import Processes
from residual_attention.training.machine import resolve_machine
from residual_attention.training.runfolder import RunFolder
from residual_attention.training.state import Progress


def test_the_folder_holds_what_the_contract_names(finished):
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "report.html",
        "curves.png",
        "confusion.png",
        "coverage.png",
        "calibration.png",
        "attention.png",
        "mistakes.png",
        "successes.png",
        "sheets",
        "development",
        "development.png",
        "examples",
        "tensorboard",
        "checkpoints",
    }
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"best.safetensors", "last.safetensors"}


def test_everything_is_resolved_in_the_configuration(finished):
    config = TrainConfig.from_dict(yaml.safe_load((finished / "config.yaml").read_text()))
    assert (config.model, config.image_size, config.in_chans) == ("attention56_cifar", 16, 1)
    assert (config.flip, config.device, config.compile, config.channels_last) == (False, "cpu", "off", "on")
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_it_learned_and_the_figures_agree(finished):
    summary = json.loads((finished / "summary.json").read_text())
    rows = list(csv.DictReader((finished / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 5
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    assert summary["test"]["error_pct"] < 50
    best = min(rows, key=lambda row: (float(row["val_error_pct"]), float(row["val_loss"])))
    assert summary["best_epoch"] == int(best["epoch"])
    assert summary["val"]["error_pct"] == pytest.approx(float(best["val_error_pct"]), abs=1e-3)
    assert sum(map(sum, summary["test"]["confusion"])) == summary["test"]["images"] == 359
    assert not any("unlike the training images" in notice for notice in summary["notices"])  # 143 are enough
    assert evaluate_model(str(finished))["top1_error_pct"] == pytest.approx(summary["test"]["error_pct"])
    assert evaluate_model(str(finished), split="val")["top1_error_pct"] == pytest.approx(summary["val"]["error_pct"])


def test_a_checkpoint_is_all_that_use_needs(finished, tmp_path):
    moved = tmp_path / "model.safetensors"
    shutil.copy(finished / "checkpoints" / "best.safetensors", moved)
    model = load(moved)
    assert not model.training
    assert model.classes == [str(i) for i in range(10)]
    dataset = load_dataset(TrainConfig(data="digits"))
    assert dataset.test is not None
    images = model.preprocess.normalize(dataset.test.images)  # type: ignore[union-attr]
    with torch.no_grad():
        error = 100 * (model(images).argmax(1) != dataset.test.labels).float().mean().item()
    assert error == pytest.approx(json.loads((finished / "summary.json").read_text())["test"]["error_pct"], abs=1e-3)


def test_tensorboard_shows_scalars_and_pictures(finished):
    events = EventAccumulator(str(finished / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {"epoch/train_loss", "epoch/val_error_pct", "step/lr", "step/loss", "final/test_error_pct"} <= set(
        tags["scalars"]
    )
    assert {"training batch", "confusion matrix", "masks/stages.0.1", "masks/stages.2.1"} <= set(tags["images"])
    assert len(events.Images("masks/stages.0.1")) == 5
    assert tags["graph"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert "masks/stages.0.1/mean" in tags["scalars"]


def test_the_report_is_self_contained_and_escapes(finished, tmp_path):
    page = (finished / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert str(finished) not in page
    assert page.count("data:image/png;base64,") == 5  # the curves twice, for narrow screens too
    assert page.count("data:image/jpeg;base64,") >= 16
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    summary = json.loads((run / "summary.json").read_text())
    summary["classes"][0] = summary["test"]["per_class"][0]["class"] = "<script>alert(1)</script>"
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "curves.png").unlink()
    page = write_report(run).read_text()
    assert "<script>" not in page
    assert "Learning curves" not in page
    with pytest.raises(ValueError, match=r"summary\.json not found"):
        write_report(tmp_path)


def test_a_folder_with_a_run_is_refused(finished, tiny_config):
    with pytest.raises(ValueError, match="already holds a run; continue it with `ran resume"):
        train(tiny_config(out=finished))


def test_two_runs_in_one_folder_are_refused(finished, tiny_config):
    with open(finished / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="in use by another run"):
            resume(finished, epochs=9)


def test_a_folder_that_cannot_be_made_is_found_before_training(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write the run folder"):
        train(tiny_config(out=tmp_path / "file" / "run"))


def test_too_little_space_is_found_before_training(tiny_config, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 2**20))
    with pytest.raises(ValueError, match="1 MiB free, but the run needs"):
        train(tiny_config())


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tiny_config, monkeypatch):
    config = tiny_config(checkpoint_steps=1, epochs=1)
    replace, calls = os.replace, 0

    def full(source, target):
        nonlocal calls
        calls += str(target).endswith("last.safetensors")
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="the previous one is kept"):
            train(config)
    progress = read_checkpoint(config.out / "checkpoints" / "last.safetensors")[1]["training"]["progress"]
    assert progress["step"] == 2
    assert not list(config.out.rglob("*.tmp"))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_non_finite_value_stops_the_run_and_no_state_after_it_is_saved(tiny_config, monkeypatch, what, late):
    monkeypatch.setattr(step.Job, "reads_late", late)
    config = tiny_config(checkpoint_steps=1, epochs=1, ema=0.0)
    backward = step._backward

    def poisoned(job, state, batch):
        result = backward(job, state, batch)
        if state.progress.step == 3:
            if what == "loss":
                return torch.tensor(math.nan), result[1]
            next(state.model.parameters()).grad[0] = math.inf
        return result

    monkeypatch.setattr(step, "_backward", poisoned)
    with pytest.raises(ValueError, match=f"step 3: the {what} is"):
        train(config)
    tensors, metadata = read_checkpoint(config.out / "checkpoints" / "last.safetensors")
    assert metadata["training"]["progress"]["step"] == 3
    assert all(torch.isfinite(t).all() for t in tensors.values())


def test_figures_read_one_step_late_make_the_same_run(tiny_config, monkeypatch):
    files = []
    for late in (False, True):
        monkeypatch.setattr(step.Job, "reads_late", late)
        config = tiny_config(out=tiny_config().out.with_name(f"late-{late}"), checkpoint_steps=4)
        train(config)
        rows = list(csv.DictReader((config.out / "metrics.csv").read_text().splitlines()))
        timeless = [{k: v for k, v in row.items() if k not in ("images_per_s", "time_s")} for row in rows]
        files.append((read_checkpoint(config.out / "checkpoints" / "last.safetensors")[0], timeless))
    (one, rows), (other, others) = files
    assert rows == others
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_running_out_of_memory_says_what_to_lower(tiny_config, monkeypatch):
    def greedy(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(step, "_backward", greedy)
    with pytest.raises(ValueError, match="lower --batch-size or --image-size, or set --accumulate 2"):
        train(tiny_config())


def test_accumulated_parts_give_the_whole_batchs_gradient(tiny_config, tmp_path):
    # BN sees the parts, so the comparison is of a network whose BN is in eval mode: one step, momentum aside
    from residual_attention.training.step import _backward

    captured = {}

    def record(parts: int) -> dict[str, torch.Tensor]:
        job, state, batch = captured["job"], captured["state"], captured["batch"]
        state.model.eval()
        state.optimizer.zero_grad()
        object.__setattr__(job.config, "accumulate", parts)
        _backward(job, state, batch)
        return {name: p.grad.clone() for name, p in state.model.named_parameters()}

    def capture(job, state, batch):
        captured.update(job=job, state=state, batch=batch)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "train_step", capture)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config(dropout=0.0))
    whole, parts = record(1), record(4)
    for name, gradient in whole.items():
        assert torch.allclose(parts[name], gradient, atol=1e-5), name


def test_early_stopping_ends_the_run(tiny_config):
    config = tiny_config(epochs=50, early_stop=1, lr=1e-12, ema=0.0, limit_train=32)
    summary = train(config)
    assert summary["status"] == "early_stopped"
    assert summary["epochs"] < 50


def test_without_validation_the_last_weights_are_best(tiny_config):
    config = tiny_config(val_fraction=0.0, epochs=2, ema=0.0)
    summary = train(config)
    assert summary["val"] is None
    assert any("and there are 0; add images or raise --val-fraction" in notice for notice in summary["notices"])
    assert summary["best_epoch"] == 2
    with pytest.raises(ValueError, match="early-stop needs a validation split"):
        train(tiny_config(val_fraction=0.0, early_stop=3, out=config.out.with_name("other")))


def test_init_takes_all_but_a_classifier_of_other_classes(tiny_config, write_image_folder, tmp_path):
    first = tiny_config(epochs=1)
    train(first)
    folder = write_image_folder(tmp_path / "images", classes=3)
    second = tiny_config(data=str(folder), image_size=16, in_chans=1, batch_size=6, limit_train=None, steps=1)
    second = TrainConfig(**{**second.__dict__, "init": str(first.out), "out": tmp_path / "second"})
    summary = train(second)
    assert any("classifier starts from scratch" in notice for notice in summary["notices"])
    other = TrainConfig(**{**second.__dict__, "widths": (32, 16, 16), "out": tmp_path / "third"})
    with pytest.raises(ValueError, match="a different network"):
        train(other)


def truncated(folder: Path) -> None:
    """Truncate one training image."""
    path = sorted(folder.rglob("*.png"))[5]
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_large_training_image_is_counted_and_stops_nothing(
    tiny_config, write_image_folder, tmp_path, workers
):
    folder = write_image_folder(tmp_path / "images", each=20)
    truncated(folder)
    config = tiny_config(
        data=str(folder), image_size=72, limit_train=None, batch_size=6, workers=workers, epochs=None, steps=2
    )
    summary = train(config)  # two steps may miss it; the evaluation of the training images reads it
    assert summary["train"]["images"] + summary["val"]["images"] + summary["test"]["images"] == 39
    assert summary["status"] == "done"


def test_without_skipping_an_unreadable_image_is_one_line(tiny_config, write_image_folder, tmp_path):
    folder = write_image_folder(tmp_path / "images", each=20)
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:2000])
    config = tiny_config(
        data=str(folder),
        image_size=72,
        limit_train=None,
        batch_size=6,
        workers=2,
        skip_bad_images=False,
        val_fraction=0.0,
        test_fraction=0.0,
    )
    with pytest.raises(ImageError) as raised:
        train(config)
    assert len(str(raised.value)) < 300
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("out", ["inside", None])
def test_the_data_folder_is_never_written_to(tiny_config, write_image_folder, tmp_path, monkeypatch, out):
    folder = write_image_folder(tmp_path / "images")
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    config = tiny_config(data=".", image_size=32, limit_train=None, batch_size=6, out=out and folder / out)
    with pytest.raises(ValueError, match="never written to"):
        train(config)
    assert sorted(folder.rglob("*")) == before


def test_a_validation_loss_that_is_not_finite_names_the_step_and_keeps_the_state(tiny_config, monkeypatch):
    evaluate = classification.evaluate
    monkeypatch.setattr(classification, "evaluate", lambda *a, **k: replace(evaluate(*a, **k), loss=math.inf))
    config = tiny_config()
    with pytest.raises(ValueError, match="step 6: the validation loss is not finite"):
        train(config)
    saved = read_checkpoint(config.out / "checkpoints" / "last.safetensors")[1]["training"]["progress"]
    assert (saved["step"], saved["step_in_epoch"]) == (6, 6)


def test_few_images_are_read_several_times_an_epoch(tiny_config, monkeypatch):
    monkeypatch.setattr("residual_attention.training.run.finish", lambda *_: {})
    config = tiny_config(epochs=2, min_steps=30)
    train(config)
    resolved = TrainConfig.from_dict(yaml.safe_load((config.out / "config.yaml").read_text()))
    assert resolved.repeats == 3
    rows = list(csv.DictReader((config.out / "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [18, 36]


def test_compile_and_checkpointing_are_refused_together():
    with pytest.raises(ValueError, match="cannot be combined"):
        TrainConfig(compile="on", grad_checkpointing=True)
    assert not resolve_machine(TrainConfig(grad_checkpointing=True)).compile


def test_a_checkpoint_within_an_epoch_has_the_sums_of_all_processes(tiny_config, monkeypatch):
    """As if the other process had seen the same; on a resume, all but the main one begin at 0."""
    saved = []
    monkeypatch.setattr(Processes, "total", lambda _, values: [2 * value for value in values])
    monkeypatch.setattr(RunFolder, "save", lambda self, path, tensors, card: saved.append(card.training))
    with pytest.raises(ValueError, match="no checkpoint"):  # nothing was written, so the end finds no best weights
        train(tiny_config(epochs=1, checkpoint_steps=4))
    within = next(one["progress"] for one in saved if one and one["progress"]["step_in_epoch"] == 4)
    assert within["seen"] == 2 * 64
    progress = Progress(loss_sum=3.0, seen=64, tally={"wrong": 5.0})
    progress.forget_sums()
    assert (progress.loss_sum, progress.seen, progress.tally) == (0.0, 0, {"wrong": 0.0})
