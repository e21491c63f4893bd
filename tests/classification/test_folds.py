"""`--folds K`: each image is tested on once, nothing is divided that belongs together, and a stopped call goes on."""

import json
import os
import signal
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention.checkpoints import load
from residual_attention.checkpoints.own_data import split_for
from residual_attention.classification import folds as module
from residual_attention.classification.folds import resume_folds, train_folds
from residual_attention.cli.main import main
from residual_attention.data.folding import fold_of
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.training.interrupt import Interrupted


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_image_folder) -> Path:
    """Two classes of 9 in training, with a copy and a near copy, and a test split of 2 each."""
    root = tmp_path_factory.mktemp("photos")
    train = write_image_folder(root / "train", classes=2, each=9, size=40)
    write_image_folder(root / "test", classes=2, each=2, size=44)
    (train / "class00/copy.png").write_bytes((train / "class00/0.png").read_bytes())
    Image.open(train / "class01/1.png").save(train / "class01/again.jpg", quality=95)
    (train / "class01/broken.png").write_bytes((train / "class01/2.png").read_bytes()[:60])
    return root


def folded(data: Path, fold: int, folds: int = 3, **options):
    return load_dataset(DataRequest(data=str(data), folds=folds, fold=fold, **options))


def test_each_image_is_in_one_fold_and_copies_are_not_divided(photos):
    found = [folded(photos, fold) for fold in (1, 2, 3)]
    sizes = [len(one.test) for one in found]
    assert sum(sizes) == 20
    assert max(sizes) - min(sizes) <= 2
    for one in found:
        assert len(one.train) + len(one.val) + len(one.test) == 20
        assert one.skipped == 1  # the broken one, on whichever side it is
        assert sorted(set(one.test.labels.tolist())) == [0, 1]
        assert any("4 images of the existing test split are left untouched" in notice for notice in one.notices)
    digests = [{digest for digest, side in one.placed.sides.items() if side == "test"} for one in found]
    assert not digests[0] & digests[1] | digests[0] & digests[2] | digests[1] & digests[2]


def test_the_names_of_files_do_not_matter(photos, tmp_path):
    renamed = tmp_path / "photos"
    for path in (photos / "train").rglob("*.*"):
        target = renamed / path.parent.name / f"{zlib.crc32(path.name.encode())}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert folded(renamed, 2).placed == folded(photos, 2).placed


def test_what_an_earlier_run_tested_on_does_not_join_a_fold(photos):
    before = load_dataset(DataRequest(data=str(photos / "train"), test_fraction=0.4)).placed
    assert "test" in before.sides.values()
    request = DataRequest(data=str(photos), folds=3, fold=1)
    found, plain = load_dataset(request, placed=before), load_dataset(request)
    assert torch.equal(found.test.labels, plain.test.labels)
    assert any("were trained on by an earlier run" in notice for notice in found.notices)


def test_a_list_keeps_its_groups_together(photos, tmp_path):
    rows = [f"{photos}/train/class0{k}/{i}.png,class0{k},patient {k}{i // 3}" for k in range(2) for i in range(9)]
    table = tmp_path / "list.csv"
    table.write_text("path,label,group\n" + "\n".join(rows))
    for fold in (1, 2, 3):
        held = folded(table, fold).test
        assert held.labels.tolist().count(0) == held.labels.tolist().count(1) == 3


def test_folds_are_stratified_and_need_enough_of_each_class():
    labels = [0] * 30 + [1] * 6
    found = fold_of(labels, range(36), ["many", "few"], 3, seed=0)
    assert [int((found[30:] == k).sum()) for k in range(3)] == [2, 2, 2]
    assert (found != fold_of(labels, range(36), ["many", "few"], 3, seed=1)).any()
    with pytest.raises(ValueError, match="the class few has only 6 images"):
        fold_of(labels, range(36), ["many", "few"], 7, seed=0)
    with pytest.raises(ValueError, match="only 2 images that can be separated"):
        fold_of(labels, [*range(30), 1000, 1000, 1000, 1001, 1001, 1001], ["many", "few"], 3, seed=0)


@pytest.fixture
def config(tiny_config, tmp_path):
    return replace(tiny_config(limit_train=32, epochs=1, ema=0.0, warmup_epochs=0), folds=2, out=tmp_path / "folds")


def test_two_folds_of_digits_with_one_report(config, capsys):
    found = train_folds(config)
    folder = config.out
    assert json.loads((folder / "folds.json").read_text()) == json.loads(json.dumps(found))
    assert capsys.readouterr().out == ""  # the configuration asks for JSON, which the command prints
    assert [run["run"] for run in found["runs"]] == ["fold1", "fold2"]
    together = found["together"]
    assert sum(run["images"] for run in found["runs"]) == together["images"] == 1438  # all but the test split
    errors = [run["error_pct"] for run in found["runs"]]
    assert together["mean_error_pct"] == pytest.approx(np.mean(errors))
    assert together["std_error_pct"] == pytest.approx(np.std(errors, ddof=1))
    confusion = np.array(together["confusion"])
    assert together["pooled_error_pct"] == pytest.approx(100 * (1 - np.trace(confusion) / confusion.sum()))
    page = (folder / "report.html").read_text()
    assert 'href="fold2/report.html"' in page
    assert str(folder) not in page
    _, samples, _ = split_for(load(folder / "fold2"))
    assert len(samples) == found["runs"][1]["images"]  # `ran eval` of a fold evaluates its fold
    assert main(["report", str(folder)]) == 0
    assert main(["train", "digits", "--folds", "2", "--out", str(folder)]) == 2
    assert "already holds folds" in capsys.readouterr().err
    assert main(["resume", str(folder), "--epochs", "3"]) == 2


def test_a_signal_stops_in_a_fold_and_resume_goes_on(config, monkeypatch):
    begin = module.core.begin
    begun: list[str] = []

    def signalling(config, entry):
        begun.append(config.out.name)
        if config.fold == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return begin(config, entry)

    monkeypatch.setattr(module.core, "begin", signalling)
    with pytest.raises(Interrupted, match="fold 2 of 2 and saved; continue with `ran resume") as stopped:
        train_folds(config)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert len(json.loads((config.out / "folds.json").read_text())["runs"]) == 1
    before = (config.out / "fold1/checkpoints/best.safetensors").stat().st_mtime_ns
    found = resume_folds(config.out, json=True)
    assert len(found["runs"]) == 2
    assert begun == ["fold1", "fold2"]  # the second was resumed, the first left as it was
    assert (config.out / "fold1/checkpoints/best.safetensors").stat().st_mtime_ns == before


def test_data_of_several_labels_and_folders_of_others_are_refused(photos, tmp_path, capsys):
    table = tmp_path / "several.csv"
    table.write_text("path,label\n" + "\n".join(f"{photos}/train/class00/{i}.png,a;b" for i in range(4)))
    out = tmp_path / "out"
    assert main(["train", str(table), "--folds", "2", "--out", str(out)]) == 2
    said, err = capsys.readouterr()
    assert "several.csv has several labels per image; --folds needs data with one class per image" in err
    assert "fold 1" not in said
    assert not out.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("mine")
    for arguments, message in (
        (["digits", "--folds", "2", "--out", str(tmp_path / "mine")], "is not empty"),
        (["digits", "--folds", "1"], "folds must be between"),
        (["digits", "--fold", "1"], "fold must be between 1 and --folds"),
        ([str(photos), "--folds", "2", "--out", str(photos / "x")], "never written to"),
    ):
        assert main(["train", *arguments]) == 2
        assert message in capsys.readouterr().err
