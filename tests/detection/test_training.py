"""A detection run: what it writes, how it resumes bit for bit, what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import residual_attention.training.loop as loop
from residual_attention import detect_files, load, load_detector
from residual_attention.boxes.coco import as_coco
from residual_attention.checkpoints import read_checkpoint
from residual_attention.cli.main import main
from residual_attention.detection.config import DetectConfig, detect_defaults
from residual_attention.detection.datasets import load_detection
from residual_attention.detection.detectors import build_body, build_detector
from residual_attention.detection.evaluate import evaluate_detector
from residual_attention.detection.task import DetectionTask
from residual_attention.tasks import resume, train
from residual_attention.training.interrupt import Interrupted


@pytest.fixture
def config_for(tmp_path, made_voc) -> Callable[..., DetectConfig]:
    """Four steps per epoch with two images each, a thin Attention-56 from scratch, images of 64 px."""

    def make(**changes) -> DetectConfig:
        defaults = {
            "data": str(made_voc),
            "model": "attention56_cifar",
            "init": "none",
            "widths": (16, 16, 16),
            "mask_depths": (1, 1, 1),
            "t": 1,
            "image_size": 64,
            "fpn_channels": 16,
            "head_channels": 32,
            "batch_size": 2,
            "epochs": 2,
            "min_steps": 0,
            "precision": "fp32",
            "workers": 0,
            "out": tmp_path / "run",
            "json": True,
        }
        return replace(detect_defaults(), **{**defaults, **changes})

    return make


def go(config: DetectConfig) -> dict:
    return train(config)


def go_on(run: Path, **changes) -> dict:
    return resume(run, json=True, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, made_voc) -> Path:
    """A complete run with masks, two epochs."""
    out = tmp_path_factory.mktemp("detector") / "run"
    config = replace(
        detect_defaults(),
        data=str(made_voc),
        model="attention56_cifar",
        init="none",
        widths=(16, 16, 16),
        mask_depths=(1, 1, 1),
        t=1,
        image_size=64,
        fpn_channels=16,
        head_channels=32,
        batch_size=2,
        epochs=2,
        min_steps=0,
        precision="fp32",
        workers=0,
        out=out,
        json=True,
    )
    go(config)
    return out


def test_the_folder_is_that_of_every_run(finished):
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "report.html",
        "curves.png",
        "boxes.png",
        "attention.png",
        "precision_recall.png",
        "problems.txt",
        "tensorboard",
        "checkpoints",
    }
    rows = list(csv.DictReader((finished / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 2
    parts = [float(rows[0][f"train_loss_{name}"]) for name in ("class", "box", "proposal", "proposal_box")]
    assert sum(parts) == pytest.approx(float(rows[0]["train_loss"]), rel=1e-4)
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["task"] == "detection"
    assert summary["test"]["images"] == 4
    assert {row["class"] for row in summary["test"]["per_class"]} == {"disc", "square"}


def test_the_report_is_self_contained(finished):
    page = (finished / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 4
    before = page
    (finished / "report.html").unlink()
    assert main(["report", str(finished)]) == 0
    assert (finished / "report.html").read_text() == before


def test_tensorboard_shows_boxes(finished):
    events = EventAccumulator(str(finished / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {"epoch/train_loss_box", "epoch/val_ap50_pct", "final/test_map_pct"} <= set(tags["scalars"])
    assert {"training batch/0", "predicted boxes/0", "precision recall", "boxes"} <= set(tags["images"])


def test_what_is_reported_is_what_eval_measures(finished, made_voc):
    summary = json.loads((finished / "summary.json").read_text())
    for data in (None, str(made_voc)):
        again = evaluate_detector(str(finished), data)
        assert again["map_pct"] == pytest.approx(summary["test"]["map_pct"])
        assert again["voc_ap50_pct"] == pytest.approx(summary["test"]["voc_ap50_pct"])


def test_a_coco_copy_of_the_data_measures_the_same(finished, tmp_path):
    own = load_detection(
        DetectConfig.from_dict(read_checkpoint(finished / "checkpoints/best.safetensors")[1]["config"])
    )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "test").mkdir()
    for picture in own.test.pictures:
        shutil.copy(picture.path, tmp_path / "test")
    (tmp_path / "annotations" / "test.json").write_text(json.dumps(as_coco(own.test)))
    voc, coco = evaluate_detector(str(finished)), evaluate_detector(str(finished), str(tmp_path))
    for name in ("map_pct", "ap50_pct", "voc_ap50_pct", "voc07_ap50_pct", "per_class"):
        assert coco[name] == voc[name]
    assert evaluate_detector(str(finished), str(tmp_path / "annotations" / "test.json"))["map_pct"] == voc["map_pct"]


def assert_same(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        a, b = (read_checkpoint(run / "checkpoints" / f"{name}.safetensors")[0] for run in (one, other))
        assert a.keys() == b.keys()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []


@pytest.mark.parametrize("detector, step, workers", [("faster_rcnn", 1, 0), ("retinanet", 5, 2), ("fcos", 1, 2)])
def test_a_stopped_run_goes_on_bit_for_bit(config_for, tmp_path, monkeypatch, detector, step, workers):
    monkeypatch.setattr("residual_attention.training.run.finish", lambda *_: {})
    config = config_for(detector=detector, fpn_channels=64)
    go(replace(config, out=tmp_path / "whole"))
    train_step = loop.train_step

    def stopping(job, state, batch):
        if state.progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(job, state, batch)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", stopping)
        with pytest.raises(Interrupted):
            go(replace(config, workers=workers))
    go_on(config.out, workers=2 - workers)
    assert_same(config.out, tmp_path / "whole")


def test_the_command_resumes_a_detector_too(config_for, monkeypatch, capsys):
    config = config_for(epochs=1)
    go(config)
    assert main(["resume", str(config.out), "--epochs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2


def test_accumulated_parts_are_about_equal(config_for, monkeypatch):
    seen = []

    def spy(self, model, batch):
        seen.append(len(batch))
        return forward(self, model, batch)

    forward = DetectionTask.forward
    monkeypatch.setattr(DetectionTask, "forward", spy)
    monkeypatch.setattr("residual_attention.training.run.finish", lambda *_: {})
    go(config_for(batch_size=4, accumulate=2, epochs=1))
    assert seen == [2, 2, 2, 2]


def test_weights_of_a_classifier_and_of_a_detector_are_taken(config_for, finished, tmp_path):
    whole = {"model": None, "widths": None, "mask_depths": None, "t": None, "steps": 1}
    config = config_for(init=str(finished), **whole, out=tmp_path / "a")
    notices = go(config)["notices"]
    assert any("initial weights of the detector" in notice and "scratch" not in notice for notice in notices)
    shipped = config_for(init="auto", **whole, lr=1e-12, ema=0.0, out=tmp_path / "b")
    summary = go(shipped)
    assert summary["init"] == "attention56_cifar.cifar10"
    ours = load_detector(tmp_path / "b").pyramid.body.state_dict()
    given = load("attention56_cifar.cifar10").state_dict()
    weights = [name for name in ours if name.endswith(".weight") and "head" not in name]
    assert all(torch.allclose(ours[name], given[name], atol=1e-6) for name in weights)
    with pytest.raises(ValueError, match="a different network"):
        go(config_for(init="attention56_cifar.cifar10", model=None, out=tmp_path / "c"))
    with pytest.raises(ValueError, match="holds attention56_cifar, not attention56"):
        go(config_for(init="attention56_cifar.cifar10", model="attention56", out=tmp_path / "d"))


def test_frozen_normalisation_needs_trained_weights(config_for):
    with pytest.raises(ValueError, match="norm frozen needs the statistics of trained weights"):
        go(config_for(norm="frozen"))


def test_changed_data_are_not_resumed(config_for, made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    config = config_for(data=str(root), epochs=1)
    go(config)
    lines = (root / "ImageSets/Main/train.txt").read_text().splitlines()
    (root / "ImageSets/Main/train.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(ValueError, match=r"has changed since the run began: 7 training images .* 8 in 2 then"):
        go_on(config.out, epochs=2)


def test_a_test_split_that_was_held_out_stays_held_out(config_for, made_voc, tmp_path):
    for path in (*(made_voc / "JPEGImages").iterdir(), *(made_voc / "Annotations").iterdir()):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "photos")
    config = config_for(data=str(tmp_path / "photos"), epochs=1, test_fraction=0.25)
    first = go(config)
    held = first["test"]["images"]
    assert 1 <= held <= 8
    assert f"no test split: {held} of 16 images are held out for it, by their content" in first["notices"]
    summary = go_on(config.out, epochs=2)
    assert [summary[split]["boxes"] for split in ("train", "val", "test")] == [
        first[split]["boxes"] for split in ("train", "val", "test")
    ]
    assert evaluate_detector(str(config.out))["map_pct"] == pytest.approx(summary["test"]["map_pct"])


def test_predict_gives_boxes_in_the_images_own_pixels(finished, made_voc, tmp_path, capsys):
    source = next((made_voc / "JPEGImages").glob("*.jpg"))
    large = tmp_path / "large.png"
    with Image.open(source) as image:
        image.resize((384, 288)).save(large)
    detector = load_detector(finished)
    (small,), _ = detect_files(detector, [source], threshold=0.0)
    (big,), errors = detect_files(detector, [large], threshold=0.0)
    assert not errors
    assert (big.width, big.height) == (384, 288)
    assert all(0 <= v <= 384 for _, _, box in big.boxes for v in box)
    assert max(box[2] for _, _, box in big.boxes) > 96 >= max(box[2] for _, _, box in small.boxes)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    out = tmp_path / "drawn"
    arguments = ["detect", "predict", str(finished), str(source), str(broken), "--threshold", "0.05", "--json"]
    assert main([*arguments, "--out", str(out), "--masks"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert len(found["images"]) == 1
    assert len(found["errors"]) == 1
    assert {path.name for path in out.glob("[!.]*")} == {
        f"{source.stem}.png",
        *(f"{source.stem}-stages.{i}.1.png" for i in range(3)),
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["detect", "frobnicate"], "no command 'frobnicate' in `ran detect`"),
        (["detect", "train"], "DATA is missing"),
        (["detect", "train", "nowhere"], "no folder at nowhere"),
        (["detect", "train", "DATA", "--init", "none", "--model", "resnt50"], "(did you mean resnet50?)"),
        (["detect", "train", "nowhere", "--detector", "yolo"], "not 'yolo'"),
        (["detect", "train", "nowhere", "--imge-size", "3"], "unknown option --imge-size (did you mean --image-size?)"),
        (["detect", "predict", "RUN"], "no image given"),
        (["detect", "predict", "RUN", "nothing.jpg"], "no image at nothing.jpg"),
        (["detect", "predict", "RUN", ".", "--masks"], "give a folder with --out"),
        (["detect", "eval", "attention56_cifar.cifar10"], "is a classifier, not a detector"),
        (["predict", "RUN", "pyproject.toml"], "is a detector, not a classifier; use `ran detect`"),
        (["detect", "eval", "RUN", "--split", "tset"], "--split must be one of test, train, val, not 'tset'"),
    ],
)
def test_bad_arguments_are_one_line(finished, made_voc, capsys, arguments, message):
    names = {"RUN": str(finished), "DATA": str(made_voc)}
    assert main([names.get(a, a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_names_the_three_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["detect", "--help"])
    assert not stop.value.code
    text = capsys.readouterr().out
    assert all(word in text for word in ("train", "eval", "predict"))


def test_a_machine_that_compiles_does_not_compile_a_detector(config_for, monkeypatch):
    """As on CUDA, where auto means on; the saved configuration matches what ran."""
    import residual_attention.training.run as run

    resolve, prepare, seen = run.resolve_machine, run.prepared_forward, []
    monkeypatch.setattr(run, "resolve_machine", lambda *a: replace(resolve(*a), compile=True, precision="fp16"))
    monkeypatch.setattr(run, "prepared_forward", lambda m, machine, p: seen.append(machine) or prepare(m, machine, p))
    monkeypatch.setattr(run, "finish", lambda *_: {})
    go(config_for(steps=1, precision="auto"))
    assert [(machine.compile, machine.precision) for machine in seen] == [(False, "fp32")]


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "fcos"])
def test_boxes_and_scores_are_float32_under_autocast(config_for, name):
    config = config_for(detector=name, fpn_channels=64, score_threshold=0.0)
    body, _ = build_body(config, "attention56_cifar")
    detector = build_detector(config, body, ("a", "b"), (0.5,) * 3, (0.5,) * 3).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = detector([torch.rand(3, 64, 64)])
    assert (found["boxes"].dtype, found["scores"].dtype) == (torch.float32, torch.float32)


def test_an_odd_first_image_does_not_change_what_is_seen_in_the_next(config_for):
    config = config_for(score_threshold=0.0)
    body, _ = build_body(config, "attention56_cifar")
    torch.manual_seed(0)
    detector = build_detector(config, body, ("a", "b"), (0.5,) * 3, (0.5,) * 3).eval()
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        before = detector([image])[0]["scores"]
        detector([torch.rand(3, 40, 128)])
        assert torch.equal(detector([image])[0]["scores"], before)
    assert detector.network.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_figures_do_not_depend_on_the_batch_when_images_differ_in_size(finished, made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    for i, name in enumerate((root / "ImageSets/Main/test.txt").read_text().split()):
        with Image.open(root / "JPEGImages" / f"{name}.jpg") as image:
            image.crop((0, 0, 96 - 9 * (i % 3), 72)).save(root / "JPEGImages" / f"{name}.jpg")
        path = root / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("<width>96</width>", "<width>0</width>"))
    one, four = (evaluate_detector(str(finished), str(root), batch_size=size) for size in (1, 4))
    assert one["map_pct"] == pytest.approx(four["map_pct"], abs=1e-6)
    scores = [[row["score"] for row in result["per_class"]] for result in (one, four)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_test_split_without_boxes_is_ignored(config_for, finished, made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    for name in (root / "ImageSets/Main/test.txt").read_text().split():
        path = root / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    summary = go(config_for(data=str(root), steps=1))
    assert summary["test"] is None
    assert any("no test split with boxes" in notice for notice in summary["notices"])
    with pytest.raises(ValueError, match="the test split has no boxes to measure against"):
        evaluate_detector(str(finished), str(root))
    with pytest.raises(ValueError, match="has no test split with boxes; --split can be train, val"):
        evaluate_detector(str(tmp_path / "run"))


def test_eval_on_training_data_that_changed_is_refused(config_for, made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    config = config_for(data=str(root), steps=1)
    go(config)
    name = (root / "ImageSets/Main/train.txt").read_text().split()[0]
    path = root / "Annotations" / f"{name}.xml"
    path.write_text(path.read_text().replace("<name>disc<", "<name>ant<").replace("<name>square<", "<name>ant<"))
    with pytest.raises(ValueError, match="has changed since the run began"):
        evaluate_detector(str(config.out))


def test_drawing_beside_the_originals_keeps_them(finished, made_voc, tmp_path):
    with Image.open(next((made_voc / "JPEGImages").glob("*.jpg"))) as image:
        image.save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    arguments = ["detect", "predict", str(finished), str(tmp_path / "photo.png"), "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert (tmp_path / "photo.png").read_bytes() == before
    assert (tmp_path / "photo-2.png").is_file()


def test_problems_are_on_file_before_the_first_step(config_for, made_voc, tmp_path, monkeypatch):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    (root / "Annotations" / f"{(root / 'ImageSets/Main/train.txt').read_text().split()[0]}.xml").unlink()
    monkeypatch.setattr(loop, "train_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        go(config_for(data=str(root)))
    assert "no such file in Annotations" in (tmp_path / "run" / "problems.txt").read_text()


@pytest.mark.slow
def test_four_images_can_be_overfitted(config_for, made_voc, tmp_path):
    """The whole pipeline can overfit: AP50 above 0.95 on its four training images."""
    root = shutil.copytree(made_voc, tmp_path / "voc")
    names = (root / "ImageSets/Main/train.txt").read_text().split()[:4]
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names))
    for split in ("val", "test"):  # the same images under other names, as no image may be in two splits
        for name in names:
            shutil.copy(root / "JPEGImages" / f"{name}.jpg", root / "JPEGImages" / f"{split}-{name}.jpg")
            shutil.copy(root / "Annotations" / f"{name}.xml", root / "Annotations" / f"{split}-{name}.xml")
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(f"{split}-{name}" for name in names))
    config = config_for(
        data=str(root),
        batch_size=4,
        steps=150,
        image_size=96,
        lr=2e-3,
        flip=False,
        scale_jitter=0.0,
        color_jitter=0.0,
        fpn_channels=32,
        head_channels=64,
        ema=0.0,
    )
    summary = go(config)
    assert summary["test"]["ap50_pct"] > 95


@pytest.mark.slow
def test_two_processes_learn_and_measure_as_one(config_for, made_voc, tmp_path):
    """torchrun with gloo: the run finishes and reports what a single process measures afterwards."""
    thin = ["--widths", "16", "16", "16", "--mask-depths", "1", "1", "1", "--t", "1", "--fpn-channels", "16"]
    arguments = ["detect", "train", str(made_voc), "--model", "attention56_cifar", "--init", "none", *thin]
    arguments += ["--image-size", "64", "--epochs", "1", "--batch-size", "4", "--workers", "0", "--precision", "fp32"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "residual_attention"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments, "--out", str(tmp_path / "run")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["processes"] == 2
    assert evaluate_detector(str(tmp_path / "run"))["map_pct"] == pytest.approx(summary["test"]["map_pct"], abs=1e-3)


@pytest.mark.parametrize(
    "detector", ["faster_rcnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("retinanet", "fcos"))]
)
def test_an_exported_detector_finds_the_same_boxes(config_for, made_voc, tmp_path, capsys, detector):
    config = config_for(detector=detector, fpn_channels=64, steps=2)
    summary = go(config)
    out = tmp_path / "detector.onnx"
    assert (
        main(["detect", "export", str(config.out), str(out), "--images", str(made_voc / "JPEGImages"), "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 16
    assert told["largest_difference"] < 1e-3
    assert evaluate_detector(str(out), str(made_voc))["map_pct"] == pytest.approx(summary["test"]["map_pct"], abs=0.1)
    assert main(["detect", "predict", str(out), str(made_voc / "JPEGImages"), "--threshold", "0"]) == 0
    assert main(["detect", "predict", str(out), str(made_voc / "JPEGImages"), "--out", str(tmp_path), "--masks"]) == 2
    assert "has no masks" in capsys.readouterr().err


def test_a_body_of_timm_is_trained_resumed_started_from_and_exported(config_for, made_voc, tmp_path):
    changes = {"widths": None, "mask_depths": None, "t": None, "detector": "fcos", "fpn_channels": 64}
    config = config_for(model="resnet18", epochs=1, **changes)
    go(config)
    summary = go_on(config.out, epochs=2)
    assert (summary["model"], summary["epochs"]) == ("resnet18", 2)
    assert evaluate_detector(str(config.out))["map_pct"] == pytest.approx(summary["test"]["map_pct"])
    assert not (config.out / "attention.png").exists()
    arguments = [str(config.out), str(tmp_path / "detector.onnx"), "--images", str(made_voc / "JPEGImages"), "--json"]
    assert main(["detect", "export", *arguments]) == 0
    again = go(config_for(init=str(config.out), model=None, steps=1, **changes, out=tmp_path / "again"))
    assert any("initial weights of the detector" in notice for notice in again["notices"])
    assert again["model"] == "resnet18"


def test_a_difference_in_the_export_writes_nothing(finished, tmp_path, monkeypatch):
    from residual_attention.detection import export

    monkeypatch.setattr(export, "largest_difference", lambda *_: 1.0)
    detector = load_detector(finished)
    with pytest.raises(ValueError, match="nothing was written"):
        export.export_detector(detector, tmp_path / "d.onnx", export.check_images(detector, ()))
    assert not (tmp_path / "d.onnx").exists()


def test_a_box_on_the_threshold_of_one_side_alone_is_no_difference():
    from residual_attention.detection.export import largest_difference

    ours = {"boxes": torch.rand(3, 4), "labels": torch.ones(3), "scores": torch.tensor([0.9, 0.5, 0.0501])}
    theirs = {name: value[:2] for name, value in ours.items()}
    assert largest_difference(ours, theirs, 0.05) == 0
    assert largest_difference(theirs, ours, 0.05) == 0
    assert largest_difference(ours, theirs, 0.01) == float("inf")


def test_boxes_that_only_change_places_are_no_difference():
    from residual_attention.detection.export import largest_difference

    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    ours = {"boxes": boxes, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.5, 0.5])}
    theirs = {**ours, "boxes": boxes.flip(0)}
    assert largest_difference(ours, theirs) == 0
    assert largest_difference(ours, {**ours, "boxes": boxes + 50}) > 0.1
    assert largest_difference(ours, {name: value[:1] for name, value in ours.items()}) == float("inf")
