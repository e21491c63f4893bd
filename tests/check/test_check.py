"""`ran check` on made images with planted errors: copies, wrong labels, unreadable files, odd names."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from residual_attention.check.gather import find_source, gather
from residual_attention.check.labels import caution, default_network, judge, trained_on
from residual_attention.checkpoints import load
from residual_attention.cli.main import main
from residual_attention.data.folding import spread

pytest.importorskip("cleanlab")

HUES = ((220, 40, 40), (40, 200, 60), (50, 60, 220))
SWAPPED = ("class0/03.png", "class0/09.png", "class1/07.png", "class1/11.png")


def picture(label: int, seed: int, side: int = 40) -> Image.Image:
    """Bright blobs of the class's colour on grey; each seed is another picture."""
    rng = np.random.default_rng((label, seed))
    small = rng.integers(0, 90, (6, 6, 3)).astype(np.uint8)
    small[rng.random((6, 6)) < 0.5] = HUES[label]
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two splits of three classes; four training images are in the wrong class, and a copy of another."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    for split, counts in (("train", (24, 24, 12)), ("test", (4, 4, 4))):
        for label, each in enumerate(counts):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(each):
                shown = 1 - label if split == "train" and f"class{label}/{i:02}.png" in SWAPPED else label
                seed = i + 100 * (split == "test") + 50 * (shown != label)
                picture(shown, seed).save(folder / f"{i:02}.png")
    train, test = root / "train", root / "test"
    shutil.copy(train / "class0/05.png", test / "class0/same.png")
    ImageEnhance.Brightness(picture(1, 2)).enhance(1.1).save(train / "class1/near.jpg", quality=90)
    shutil.copy(train / "class2/01.png", train / "class0/other-class.png")
    (train / "class0/broken.png").write_bytes((train / "class0/01.png").read_bytes()[:80])
    (train / "class1/text.jpg").write_text("not an image")
    Image.new("RGB", (20, 20), "navy").save(train / "class2/blue.png")
    return root


def state(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in root.rglob("*"))


@pytest.fixture(scope="module")
def found(data, tmp_path_factory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("out") / "check"
    before = state(data)
    assert main(["check", str(data), "--out", str(out), "--device", "cpu"]) == 0
    assert state(data) == before
    return json.loads((out / "check.json").read_text()), out


def sets(document: dict) -> list[tuple[set[str], bool, bool, bool]]:
    return [
        (
            {image["path"] for image in family["images"]},
            *(family[k] for k in ("exact", "across_splits", "classes_differ")),
        )
        for family in document["copies"]["families"]
    ]


def test_copies_within_and_across_splits_and_classes(found):
    document, _ = found
    assert ({"train/class0/05.png", "test/class0/same.png"}, True, True, False) in sets(document)
    assert ({"train/class2/01.png", "train/class0/other-class.png"}, True, False, True) in sets(document)
    assert ({"train/class1/02.png", "train/class1/near.jpg"}, False, False, False) in sets(document)
    assert len(sets(document)) == 3
    counts = {key: document["copies"][key] for key in ("exact", "near", "held_out_in_training", "classes_differ")}
    assert counts == {"exact": 2, "near": 1, "held_out_in_training": 1, "classes_differ": 1}


def test_swapped_labels_are_the_most_suspect(found):
    document, _ = found
    suspects = document["labels"]["suspects"]
    planted = {f"train/{name}" for name in (*SWAPPED, "class0/other-class.png")}
    assert len(suspects) >= 3
    assert {one["image"]["path"] for one in suspects[:3]} <= planted
    for one in suspects[:3]:
        assert one["likely"] != one["given"] == one["image"]["path"].split("/")[1]
        assert one["probability"] < one["likely_probability"]
    assert document["labels"]["accuracy_pct"] > 85


def test_unreadable_files_counts_sizes_and_channels(found):
    document, _ = found
    assert {one["path"] for one in document["unreadable"]} == {"train/class0/broken.png", "train/class1/text.jpg"}
    assert all(one["reason"] and "class" not in one["reason"] for one in document["unreadable"])
    overview = document["overview"]
    assert overview["counts"]["test"] == {"class0": 5, "class1": 4, "class2": 4}
    assert overview["sizes"]["smallest"] == [20, 20]
    assert overview["channels"] == {"RGB": document["images"] - 2}
    assert overview["tiny"] == {"class2": 13}
    assert overview["blank"] == ["train/class2/blue.png"]


def test_the_page_is_self_contained(found):
    document, out = found
    page = (out / "check.html").read_text()
    assert page.count("data:image/") >= 2 * len(document["copies"]["families"])
    for part in ("http://", "https://", "<script", str(out), str(Path.home()) + "/"):
        assert part not in page, part
    assert f"{document['labels']['suspects'][0]['given']}?" in page
    assert "several classes" in page


def test_json_is_all_that_is_printed_and_needs_no_labels(data, tmp_path, capsys):
    assert main(["check", str(data), "--out", str(tmp_path / "c"), "--no-labels", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["labels"] is None
    assert document["labels_skipped"] == "--no-labels"
    assert document["copies"]["exact"] == 2
    assert Path(document["page"]).is_file()


def test_without_cleanlab_the_rest_is_checked(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    assert main(["check", str(data), "--out", str(tmp_path / "c")]) == 0
    assert (tmp_path / "c/check.json").is_file()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("suspect labels")]
    assert "pip install 'residual-attention[check]'" in line


def test_odd_names_links_and_pipes(tmp_path, capsysbinary):
    root = tmp_path / "odd"
    for label in range(2):
        (root / f"c{label}").mkdir(parents=True)
        for i in range(3):
            picture(label, i).save(root / f"c{label}/{i}.png")
    (root / "c0/link.png").symlink_to(root / "c0/0.png")
    (root / "c0/circle").symlink_to(root)
    os.mkfifo(root / "c1/pipe.png")
    bad = os.fsencode(root) + b"/c1/\xff.png"
    picture(1, 9).save(tmp_path / "x.png")
    Path(os.fsdecode(bad)).write_bytes((tmp_path / "x.png").read_bytes())
    Path(os.fsdecode(os.fsencode(root) + b"/c1/\xfe.png")).write_bytes(b"no image")
    assert main(["check", str(root), "--out", str(tmp_path / "c"), "--no-labels"]) == 0
    out = capsysbinary.readouterr().out.decode()
    assert "unreadable      1" in out
    document = json.loads((tmp_path / "c/check.json").read_text())
    assert document["images"] == 9
    assert sets(document) == [({"c0/0.png", "c0/link.png"}, True, False, False)]
    assert "\\xfe.png" in (tmp_path / "c/check.html").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "no data set or folder named 'nowhere'"),
        (["imagenet"], "too large"),
        (["{data}", "--out", "{data}/check"], "never written to"),
        (["{data}", "--folds", "1"], "folds must be"),
        (["{data}", "--limit", "0"], "limit must be"),
        (["{data}", "--model", "none"], "no model 'none'"),
        ([], "DATA is missing"),
    ],
)
def test_what_a_user_can_fix_is_one_line(data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["check", *(argument.format(data=data) for argument in arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_not_replaced(data, tmp_path, capsys):
    (tmp_path / "check.html").write_text("mine")
    assert main(["check", str(data), "--out", str(tmp_path), "--no-labels"]) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "check.html").read_text() == "mine"


def test_a_list_of_several_labels_is_checked_without_suspects(data, tmp_path):
    rows = [f"train/class{k}/{i:02}.png,{'a;b' if i else 'b'}" for k in range(2) for i in range(3)]
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "\n".join(f"{data}/{row}" for row in rows))
    assert main(["check", str(table), "--out", str(tmp_path / "c")]) == 0
    document = json.loads((tmp_path / "c/check.json").read_text())
    assert "several labels" in document["labels_skipped"]
    assert document["overview"]["counts"]["all"] == {"a": 4, "b": 6}
    assert str(data) not in (tmp_path / "c/check.html").read_text()


def test_the_limit_is_said(data):
    source = find_source(str(data), limit=10)
    assert len(source.entries) == 10
    assert any("10 of " in notice for notice in source.notices)


def test_an_embedded_data_set_is_read_from_memory():
    source = find_source("digits", limit=40)
    gathered = gather(source, load("attention56_cifar.cifar100").preprocess)
    assert gathered.inputs.shape == (40, 3, 32, 32)
    assert {one.mode for one in gathered.prints} == {"L"}
    assert source.shown(source.entries[0]) == "train 0"
    assert source.entries[-1].split == "test"


def test_the_network_has_not_trained_on_the_data_that_it_judges():
    for data in ("cifar10", "cifar100", "digits"):
        assert trained_on(default_network(data))[0] != data
    assert "started from weights" in caution("cifar10", "attention56_cifar.cifar100")
    assert "was trained on cifar100" in caution("cifar100", "attention56_cifar.cifar100")
    assert caution("flowers", "attention56_cifar.cifar100") == ""


def test_no_label_is_judged_by_a_regression_that_saw_a_copy_of_its_image():
    """A pair with one wrong label: were the other one learnt from, the wrong one would be confirmed by it."""
    rng = np.random.default_rng(0)
    units = [i // 2 for i in range(120)]
    given = [unit % 2 for unit in units]
    fold = spread(given, units, 5, seed=0)
    assert all(fold[i] == fold[i + 1] for i in range(0, 120, 2))
    features = np.repeat(rng.normal(size=(60, 4)), 2, axis=0) + 3 * np.array(given)[:, None]
    given[0] = given[1] = 1
    judged = judge(features, given, units, classes=2, folds=5, seed=0)
    assert {0, 1} <= set(judged.suspects[:4])


def test_a_class_with_too_few_images_is_left_out():
    rng = np.random.default_rng(1)
    given = [0] * 20 + [1] * 20 + [2] * 3
    features = rng.normal(size=(43, 3)) + np.array(given)[:, None] * 4
    judged = judge(features, given, range(43), classes=3, folds=5, seed=0)
    assert judged.left_out == [2]
    assert len(judged.checked) == 40
    assert np.isnan(judged.probabilities[40:]).all()
    with pytest.raises(ValueError, match="two classes"):
        judge(features, given, range(43), classes=3, folds=21, seed=0)
