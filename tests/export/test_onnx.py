"""Every variant computes the same through ONNX; exported files can replace the model."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from residual_attention import attention_masks, create_model, list_models, load
from residual_attention.attention.readings import look, read
from residual_attention.checkpoints.card import Card
from residual_attention.checkpoints.exported import choose_engine
from residual_attention.checkpoints.onnx_metadata import plain_metadata
from residual_attention.cli.main import main
from residual_attention.data.preprocess import Preprocess
from residual_attention.export.deploy import real_images
from residual_attention.export.onnx import ExportError, calibrate_batch_norm, check_parity, export_onnx

pytest.importorskip("onnxscript", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's and the engines' own

QUICK = {"attention56_cifar_wide"}
SMALL = {"widths": (16, 32, 32), "mask_depths": (2, 1, 1), "t": 1}
CARD = Card(model="test", classes=tuple(map(str, range(10))))


def exported(tmp_path: Path, name: str, *, masks: bool = False, size: int | None = None, **overrides):
    """The network with statistics from random images, and its ONNX file after the exporter's own check."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=10, **overrides).eval()
    side = size or (32 if "cifar" in name else 64)
    chans = overrides.get("in_chans", 3)
    calibrate_batch_norm(model, [torch.randn(8, chans, side, side) for _ in range(4)])
    card = replace(CARD, preprocess=Preprocess(side, mean=(0.5,) * chans, std=(0.5,) * chans))
    parity = export_onnx(model, card, tmp_path / "m.onnx", image_size=side, in_chans=chans, masks=masks)
    assert parity.difference <= parity.allowed
    return model, tmp_path / "m.onnx"


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in list_models()])
def test_every_variant_has_the_same_logits(tmp_path, name):
    exported(tmp_path, name)


@pytest.mark.parametrize(
    "overrides",
    [
        {"mask_activation": "channel", "learning": "naive", "unit": "vgg"},
        {"mask_activation": "spatial", "mask_structure": "local"},
        {"learning": "input", "skip": False, "unit": "dense"},
        {"in_chans": 1, "stem": "cifar_wide"},
    ],
)
def test_every_override_has_the_same_logits(tmp_path, overrides):
    exported(tmp_path, "attention56_cifar", **{**SMALL, **overrides})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_give_logits_and_masks_of_any_batch_and_size(tmp_path, engine):
    pytest.importorskip(engine)
    model, path = exported(tmp_path, "attention56_cifar", masks=True, **SMALL)
    found = load(path, engine=engine, precision="fp32")
    assert found.engine == engine
    for shape in ((1, 3, 32, 32), (5, 3, 40, 57)):
        images = torch.randn(shape)
        with torch.no_grad():
            assert torch.allclose(found(images), model(images), atol=1e-3, rtol=1e-4)
        ours, theirs = attention_masks(model, images), attention_masks(found, images)
        assert list(ours) == list(theirs)
        for name in ours:
            assert torch.allclose(ours[name], theirs[name], atol=1e-4)
    assert read(look(found, images, gradients=False), "mean").keys() == ours.keys()
    with pytest.raises(ValueError, match="need the PyTorch model"):
        look(found, images)


def test_a_network_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("residual_attention.export.onnx.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="nothing was written"):
        exported(tmp_path, "attention56_cifar", **SMALL)
    assert not (tmp_path / "m.onnx").exists()


def test_parity_sees_a_difference():
    first, second = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    assert not check_parity(first, second, [torch.randn(3, 4)]).holds
    assert check_parity(first, first, [torch.randn(3, 4)]).difference == 0


def test_other_kinds_of_files_are_reported(tmp_path):
    import onnx

    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="damaged or not an ONNX file"):
        load(tmp_path / "text.onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="was not written by `ran export`"):
        load(tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="engine must be"):
        choose_engine("tensorrt")


@pytest.fixture(scope="module")
def files(finished, tmp_path_factory) -> Path:
    """fp32 with masks, and int8, of the run on digits."""
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", str(finished), str(folder / "fp32.onnx"), "--masks"]) == 0
    assert main(["export", str(finished), str(folder / "int8.onnx"), "--int8"]) == 0
    return folder


def test_export_checks_real_images_and_reports_it(finished, tmp_path, capsys):
    assert main(["export", str(finished), str(tmp_path / "a.onnx"), "--int8", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["fp32_on_images"]["same_top1_pct"] == 100
    assert result["fp32_on_images"]["images"] > 150
    assert result["int8_on_images"]["same_top1_pct"] > 90
    assert result["bytes"] == (tmp_path / "a.onnx").stat().st_size


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_the_file_tells_a_stranger_how_to_run_it_and_nothing_of_this_machine(files, finished, kind):
    import onnx
    import torch as package

    content = (files / f"{kind}.onnx").read_bytes()
    for path in (Path.cwd(), finished, Path(package.__file__).parent, Path(__file__)):
        assert str(path).encode() not in content
    assert b"site-packages" not in content
    assert b"stack_trace" not in content
    model = load(finished)
    told = {entry.key: entry.value for entry in onnx.load(files / f"{kind}.onnx").metadata_props}
    assert json.loads(told["classes"]) == list(model.classes)
    assert float(told["temperature"]) == model.card.confidence.temperature
    assert json.loads(told["mean"]) == list(model.preprocess.mean)
    assert (told["layout"], told["channel_order"], told["image_size"]) == ("NCHW", "L (gray, ITU-R 601)", "16")
    assert "BILINEAR" in told["resize_filter"]


@pytest.mark.parametrize("resize, words", [("squash", "aspect"), ("letterbox", "colour (128)"), ("crop", "to 36 px")])
def test_every_way_of_resizing_is_described(resize, words):
    how = Preprocess(32, resize, mean=(0.5,), std=(0.5,), crop_pct=32 / 36)
    told = plain_metadata(replace(CARD, preprocess=how))
    assert words in told["resize"]
    assert ("resize_short_side" in told) == (resize == "crop")


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_commands_take_the_file_in_place_of_the_model(files, finished, tmp_path, kind, capsys):
    image = tmp_path / "digit.png"
    Image.open(next((finished / "examples").glob("*.png"))).save(image)
    answers = {}
    for model in (str(finished), str(files / f"{kind}.onnx")):
        assert main(["predict", model, str(image), "--json"]) == 0
        answers[model] = json.loads(capsys.readouterr().out)[0]
        assert main(["eval", model, "digits", "--json"]) == 0
        answers[model]["error"] = json.loads(capsys.readouterr().out)["top1_error_pct"]
    plain, other = answers.values()
    assert kind == "int8" or plain["class"] == other["class"]  # int8 may move one image, not the error
    assert abs(plain["error"] - other["error"]) < (0.01 if kind == "fp32" else 3)


def test_attend_draws_exported_masks(files, finished, tmp_path, capsys):
    image = str(next((finished / "examples").glob("*.png")))
    assert main(["attend", str(files / "fp32.onnx"), image, "--out", str(tmp_path / "a")]) == 0
    assert list((tmp_path / "a").glob("*.png"))
    capsys.readouterr()
    assert main(["attend", str(files / "int8.onnx"), image, "--out", str(tmp_path / "a")]) == 2
    assert "ran export --masks" in capsys.readouterr().err
    assert main(["attend", str(files / "fp32.onnx"), image, "--reading", "class", "--out", str(tmp_path / "a")]) == 2
    assert "need the PyTorch model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message", [(["out.txt"], "must be a .onnx or .html file"), (["x.onnx", "--data", "nothing"], "nothing")]
)
def test_wrong_calls_are_one_line(finished, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(finished), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.onnx"))


def test_missing_packages_are_reported_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for out in ("x.onnx", "x.html"):
        assert main(["export", "no model", str(tmp_path / out)]) == 2
        assert "ran export needs the package onnx" in capsys.readouterr().err


def test_a_check_downloads_nothing(capsys):
    model = load("attention56_cifar.cifar10")
    assert real_images(model, None, None, "test", 10, download=False) is None
    assert capsys.readouterr().err == ""


def test_torch_export_is_one_call():
    model = create_model("attention56_cifar", **SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    program = torch.export.export(model, (images,))
    with torch.no_grad():
        assert torch.allclose(program.module()(images), model(images), atol=1e-5)


SIGNALLED = """
import gc, os, signal, sys, threading
from residual_attention import load

signal.signal(signal.SIGTERM, lambda *_: print("alive"))
kept = [load(sys.argv[1], engine="openvino")]
thread = threading.Thread(target=lambda: (kept.clear(), gc.collect()))
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_survived_after_another_thread_freed_an_openvino_model(tmp_path):
    pytest.importorskip("openvino")
    _, path = exported(tmp_path, "attention56_cifar", **SMALL)
    done = subprocess.run([sys.executable, "-c", SIGNALLED, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
