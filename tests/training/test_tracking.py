"""Histograms in TensorBoard, and experiment trackers, offline."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from residual_attention import create_model
from residual_attention.errors import UserError
from residual_attention.tasks import resume, train
from residual_attention.training import tracking
from residual_attention.training.board import TensorBoard, _part


def histograms(folder: Path) -> dict[str, list[int]]:
    """By tag, the steps."""
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    events.Reload()
    return {tag: [event.step for event in events.Histograms(tag)] for tag in events.Tags()["histograms"]}


@pytest.mark.parametrize(
    "name, part",
    [
        ("stem.0.weight", "stem.0"),
        ("stages.0.1.trunk.0.conv.weight", "stages.0.1"),
        ("head.fc.weight", "head"),
        ("weight", "weight"),
    ],
)
def test_parts_are_named_by_stage_and_module(name, part):
    assert _part(name) == part


def test_weights_and_gradients_have_a_histogram_a_part_each_epoch_and_there_is_no_projector(tiny_config):
    train(tiny_config(epochs=2))
    folder = tiny_config().out / "tensorboard"
    found = histograms(folder)
    weights = {tag for tag in found if tag.startswith("weights/")}
    assert {"weights/stages.0.1", "weights/head"} <= weights
    assert {tag.replace("weights/", "gradients/") for tag in weights} == found.keys() - weights
    assert all(steps == [6, 12] for steps in found.values())
    assert not list(folder.rglob("projector*"))


def test_a_part_that_is_not_finite_is_left_out(tmp_path):
    model = create_model("attention56_cifar", num_classes=3, widths=(16, 16, 16), mask_depths=(1, 1, 1), t=1)
    with torch.no_grad():
        model.head.fc.weight[0] = torch.inf
    with TensorBoard(tmp_path) as board:
        board.weights(model, 1)
        board.gradients(model, 1)  # there are none
    assert "weights/head" not in histograms(tmp_path)
    assert "weights/stages.0.1" in histograms(tmp_path)


@pytest.fixture
def quiet(tmp_path, monkeypatch) -> Path:
    """Each library writes below this folder, and reaches no server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("kind", ["mlflow", "trackio", "wandb"])
def test_a_run_and_its_extension_are_one_record(tiny_config, quiet, kind):
    pytest.importorskip(kind, reason=f"the extra {kind} is not installed")
    config = tiny_config(epochs=1, track=kind)
    summary = train(config)
    first = json.loads((config.out / "tracking.json").read_text())
    resume(config.out, epochs=2, track=kind, json=True)
    assert json.loads((config.out / "tracking.json").read_text()) == first
    if kind == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient()
        record = client.get_run(first[kind])
        assert record.info.status == "FINISHED"
        assert record.data.params["batch_size"] == "16"
        assert len(client.get_metric_history(first[kind], "epoch/val_error_pct")) == 2
        assert client.get_metric_history(first[kind], "final/test_error_pct")[0].value == summary["test"]["error_pct"]
    elif kind == "trackio":
        (database,) = (quiet / "trackio").glob("*.db")
        with sqlite3.connect(database) as connection:
            names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
            assert "metrics" in names
            rows = "".join(str(row) for row in connection.execute("select * from metrics"))
        assert rows.count("epoch/val_error_pct") == 2
    else:
        files = list((config.out / "wandb").rglob("*.wandb"))
        assert len(files) == 2  # offline, each part is a file of its own, with the same identity
        assert all(first[kind] in file.name for file in files)


def test_a_missing_library_is_one_line_that_says_how_to_install_it(tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = tiny_config(track="wandb")
    with pytest.raises(UserError, match=r"pip install 'residual-attention\[wandb\]'"):
        train(config)
    assert not config.out.exists()


def test_a_library_that_does_not_start_is_a_users_error(tiny_config, monkeypatch):
    class Unreachable:
        def __init__(self, *_arguments) -> None:
            raise ConnectionError("no\nserver")

    monkeypatch.setitem(sys.modules, "mlflow", tracking)  # any module: the library is there
    monkeypatch.setitem(tracking._TRACKERS, "mlflow", Unreachable)
    with pytest.raises(UserError, match="--track mlflow cannot start: no server"):
        train(tiny_config(track="mlflow"))
