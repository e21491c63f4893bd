"""Readers while a save replaces the file, and two runs in one folder."""

import json
import multiprocessing
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from residual_attention.checkpoints import load, read_model
from residual_attention.checkpoints.format import CheckpointError, read_checkpoint, save_checkpoint
from residual_attention.checkpoints.hub import CONFIG, OWN, WEIGHTS_FILE, write_folder
from residual_attention.cli.main import main
from residual_attention.errors import UserError
from residual_attention.training.runfolder import RunFolder, RunInUse

MODEL = "attention56_cifar.digits"


def test_a_reader_never_sees_a_file_half_replaced(tmp_path):
    path = tmp_path / "last.safetensors"
    versions = [({"x": torch.full((1 << 16,), float(i))}, {"step": i}) for i in range(2)]
    save_checkpoint(path, *versions[0])
    done = threading.Event()

    def keep_saving() -> None:
        number = 0
        while not done.is_set():
            save_checkpoint(path, *versions[number % 2])
            number += 1

    writer = threading.Thread(target=keep_saving)
    writer.start()
    try:
        for _ in range(300):
            tensors, header = read_checkpoint(path)
            assert tensors["x"][0].item() == tensors["x"][-1].item() == header["step"]
    finally:
        done.set()
        writer.join()


def test_a_file_that_is_damaged_and_stays_is_an_error_at_once(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"x": torch.ones(8)}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its SHA-256"):
        read_checkpoint(path)


def _hold(path: Path, ready, release) -> None:
    with RunFolder(path).locked():
        ready.set()
        release.wait(30)


def test_a_second_run_cannot_take_a_folder_between_creation_and_the_first_save(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(folder.path, ready, release))
    other.start()
    try:
        assert ready.wait(60)
        second = RunFolder(folder.path)
        second.create()  # nothing is saved yet
        with pytest.raises(RunInUse), second.locked():
            pass
    finally:
        release.set()
        other.join()
    save_checkpoint(folder.last, {"x": torch.ones(1)}, {})
    with second.locked(), pytest.raises(UserError, match="already holds a run"):
        second.refuse_a_run()


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "model"
    write_folder(*read_model(MODEL), folder)
    return folder


def test_hub_folders_carry_their_digests(hub, tmp_path):
    model = load(f"local-dir:{hub}")
    assert model.classes == load(MODEL).classes
    content = bytearray((hub / WEIGHTS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    damaged = _copy(hub, tmp_path / "weights")
    (damaged / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS_FILE} does not match its SHA-256"):
        load(f"local-dir:{damaged}")


def _copy(hub: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in hub.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    "key, change",
    [
        ("label_names", lambda config: config["label_names"].reverse()),
        ("classes", lambda config: config[OWN]["classes"].reverse()),
        ("mean", lambda config: config[OWN]["preprocess"].update(mean=[0.9])),
        ("pretrained_cfg", lambda config: config["pretrained_cfg"].update(mean=[0.9])),
    ],
)
def test_changed_meaning_in_a_hub_folder_is_refused(hub, tmp_path, key, change):
    folder = _copy(hub, tmp_path / key)
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"{CONFIG} does not match its SHA-256"):
        load(f"local-dir:{folder}")


def test_lost_digests_are_noticed(hub, tmp_path):
    folder = _copy(hub, tmp_path / "lost")
    config = json.loads((folder / CONFIG).read_text())
    config["residual_attentioo"] = config.pop(OWN)
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"{CONFIG} has lost its SHA-256"):
        load(f"local-dir:{folder}")


def test_hub_folders_without_digests_still_load(hub, tmp_path):
    folder = _copy(hub, tmp_path / "before")
    config = json.loads((folder / CONFIG).read_text())
    for key in ("sha256", "header_sha256"):
        del config[OWN][key]
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(load_file(folder / WEIGHTS_FILE), folder / WEIGHTS_FILE)
    assert load(f"local-dir:{folder}").classes == load(MODEL).classes


def test_a_checkpoint_of_another_network_reaches_no_hub(tmp_path, capsys):
    weights, card = read_model(MODEL)
    path = tmp_path / "foreign.safetensors"
    header = {**card.to_header(), "model": "hf-hub:somebody/something"}
    save_checkpoint(path, {f"model.{name}": value for name, value in weights.items()}, header)
    for out in ("local-dir:" + str(tmp_path / "out"), str(tmp_path / "out.onnx")):
        assert main(["export", str(path), out]) == 2
        assert "no model named 'hf-hub:somebody/something'" in capsys.readouterr().err
    header = {**card.to_header(), "overrides": {**card.overrides, "checkpoint_path": "/etc/passwd"}}
    save_checkpoint(path, {f"model.{name}": value for name, value in weights.items()}, header)
    assert main(["export", str(path), "local-dir:" + str(tmp_path / "out")]) == 2
    assert "has no option 'checkpoint_path'" in capsys.readouterr().err
