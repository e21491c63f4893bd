"""Files that version 0.1 wrote before checkpoint format 2 still resume, load, predict and export the same.

`tools/make_golden.py` made them with that version's code, fp32 on one thread. Another processor may round differently:
there, trained tensors are compared within a tolerance, and bit for bit where one backward pass has the same bits.
"""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from residual_attention import attention_masks, detect_files, load, load_detector
from residual_attention.checkpoints import read_card, read_checkpoint
from residual_attention.cli.main import main

HERE = Path(__file__).resolve().parent
EXPECTED = json.loads((HERE / "format_1.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    archive = HERE / "format_1.zip"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == EXPECTED["sha256"]
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


@pytest.fixture
def folder(unpacked, tmp_path, monkeypatch) -> Path:
    """A copy to work in, as the working folder."""
    shutil.copytree(unpacked, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    return tmp_path / "golden"


def told(capsys, *arguments: str) -> dict:
    """What a command prints with ``--json``."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def check_epochs(run: Path, expected: list[dict], relative: float = 1e-4) -> None:
    training = read_card(run / "checkpoints" / "last.safetensors").training
    assert training is not None
    history = training["progress"]["history"][-len(expected) :]
    for row, known in zip(history, expected, strict=True):
        assert {key: row[key] for key in known} == pytest.approx(known, rel=relative)


def same_bits(folder: Path) -> bool:
    """Whether this machine computes the gradients of the machine that made the files, to the last bit."""
    known = load_file(folder / "digits-gradients.safetensors")
    model = load(folder / "digits-stopped").train()
    images = known.pop("images")
    torch.nn.functional.cross_entropy(model(images), torch.zeros(len(images), dtype=torch.long)).backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return gradients.keys() == known.keys() and all(torch.equal(gradients[name], known[name]) for name in known)


def test_a_run_of_format_1_resumes_to_the_same_tensors_and_losses(folder, capsys):
    summary = told(capsys, "resume", "digits-stopped")
    check_epochs(folder / "digits-stopped", EXPECTED["digits"]["resumed"]["epochs"])
    for split, known in EXPECTED["digits"]["resumed"]["summary"].items():
        assert {name: summary[split][name] for name in known} == pytest.approx(known, rel=1e-4)
    exactly = {"rtol": 0, "atol": 0} if same_bits(folder) else {"rtol": 1e-3, "atol": 1e-5}
    for name in ("last", "best"):
        ours, theirs = (
            read_checkpoint(folder / run / f"checkpoints/{name}.safetensors")[0]
            for run in ("digits-stopped", "digits-resumed")
        )
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            torch.testing.assert_close(ours[key], tensor, **exactly, msg=lambda text, key=key: f"{key}: {text}")


def test_a_stopped_run_of_format_1_evaluates_the_same(folder, capsys):
    known = EXPECTED["digits"]["stopped"]
    found = told(capsys, "eval", "digits-stopped", "digits", "--device", "cpu")
    assert {name: found[name] for name in known} == pytest.approx(known, rel=1e-4)


def test_the_same_command_trains_to_the_same_losses(folder, capsys):
    told(capsys, *EXPECTED["fresh"]["train"].split(), "--out", "fresh")
    check_epochs(folder / "fresh", EXPECTED["fresh"]["epochs"])


@pytest.mark.parametrize("model", ["shapes-run", "local-dir:shapes-hub", "shapes.onnx"])
def test_a_classifier_of_format_1_has_the_same_classes_logits_masks_and_predictions(folder, capsys, model):
    if model.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    known = EXPECTED["shapes"]
    engine = ["--engine", "onnxruntime"] if model.endswith(".onnx") else []
    network = load(model, engine="onnxruntime") if engine else load(model)
    images = load_file(folder / "shapes-images.safetensors")["images"]
    assert list(network.classes) == known["classes"]
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.tensor(known["logits"]), rtol=1e-4, atol=1e-4)
    means = {name: mask.double().mean().item() for name, mask in attention_masks(network, images).items()}
    assert means == pytest.approx(known["mask_means"], rel=1e-4)
    paths = [prediction["path"] for prediction in known["predictions"]]
    for found, expected in zip(told(capsys, "predict", model, *paths, *engine), known["predictions"], strict=True):
        assert (found["path"], found["class"]) == (expected["path"], expected["class"])
        assert found["probability"] == pytest.approx(expected["probability"], abs=1e-4)
    evaluation = told(capsys, "eval", model, "shapes-test", "--device", "cpu", *engine)
    assert {name: evaluation[name] for name in known["evaluation"]} == pytest.approx(
        known["evaluation"], rel=1e-3, abs=1e-3
    )


def check_boxes(found: list, expected: list[dict]) -> None:
    for one, known in zip(found, expected, strict=True):
        assert one.path == known["path"]
        for (name, score, box), (known_name, known_score, known_box) in zip(one.boxes, known["boxes"], strict=True):
            assert name == known_name
            assert score == pytest.approx(known_score, abs=1e-3)
            assert box == pytest.approx(known_box, abs=0.05)


def test_a_detector_of_format_1_finds_the_same_boxes_and_resumes(folder, capsys):
    known = EXPECTED["boxes"]
    model = load_detector("boxes-stopped")
    assert list(model.classes) == known["classes"]
    paths = [Path(one["path"]) for one in known["found"]]
    found, errors = detect_files(model, paths, threshold=0.5)
    assert not errors
    check_boxes(found, known["found"])
    evaluation = told(capsys, "detect", "eval", "boxes-stopped", "boxes", "--device", "cpu")
    assert {name: evaluation[name] for name in known["evaluation"]} == pytest.approx(known["evaluation"], abs=0.5)
    told(capsys, "resume", "boxes-stopped", "--data", "boxes")
    relative = 1e-4 if same_bits(folder) else 0.1  # rounding can move a region across a threshold: 2 % of a loss
    check_epochs(folder / "boxes-stopped", known["resumed"]["epochs"], relative)


def test_an_exported_detector_of_format_1_finds_the_same_boxes(folder):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    from residual_attention.detection.load import any_detector

    known = EXPECTED["boxes"]["found"]
    found, errors = detect_files(any_detector("boxes.onnx"), [Path(one["path"]) for one in known], threshold=0.5)
    assert not errors
    check_boxes(found, known)
