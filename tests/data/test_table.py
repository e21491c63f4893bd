"""DATA as a CSV or a text list."""

from pathlib import Path

import pytest
import torch

from residual_attention.classification.config import TrainConfig
from residual_attention.data.load import load_dataset, load_split
from residual_attention.data.table import read_list
from residual_attention.errors import UserError


@pytest.fixture
def folder(write_image_folder, tmp_path) -> Path:
    return write_image_folder(tmp_path / "photos", classes=2, each=20, size=24)


def written(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def rows(folder: Path) -> list[tuple[str, str]]:
    return [(str(path.relative_to(folder)), path.parent.name) for path in sorted(folder.rglob("*.png"))]


def test_a_csv_gives_the_same_images_and_splits_as_the_folder(folder):
    table = written(folder, "Image,Class\n" + "".join(f"{path},{label}\n" for path, label in reversed(rows(folder))))
    listed, scanned = (load_dataset(TrainConfig(data=str(data), image_size=16)) for data in (table, folder))
    assert listed.name == "list"
    assert listed.classes == scanned.classes
    assert listed.placed == scanned.placed
    assert sorted(listed.test.labels.tolist()) == sorted(scanned.test.labels.tolist())


@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_text_list_gives_path_and_label(folder, separator):
    plain = written(
        folder, "# mine\n" + "".join(f"{path}{separator}{label}\n" for path, label in rows(folder)), "l.txt"
    )
    assert (
        read_list(plain).splits
        == read_list(written(folder, "\n".join(path for path, _ in rows(folder)), "p.txt")).splits
    )
    assert read_list(plain).classes == ["class00", "class01"]


def test_given_splits_and_groups_are_kept(folder):
    cells = [f"{p};{label};{('train', 'VALID', 'test')[i % 3]};{i % 4}\n" for i, (p, label) in enumerate(rows(folder))]
    listing = read_list(written(folder, "path;label;split;group\n" + "".join(cells)))
    assert {split: len(pairs) for split, pairs in listing.splits.items()} == {"train": 14, "val": 13, "test": 13}
    grouped = [f"{path},{label},{i // 5}\n" for i, (path, label) in enumerate(rows(folder))]
    table = written(folder, "path,label,group\n" + "".join(grouped))
    data = load_dataset(TrainConfig(data=str(table), image_size=16, test_fraction=0.3))
    sides = data.placed
    groups: dict[str, set[str]] = {}
    from residual_attention.data.fingerprints import digest_of

    for line in grouped:
        path, _, group = line.strip().split(",")
        groups.setdefault(group, set()).add(sides.of(digest_of((folder / path).read_bytes())))
    assert all(len(found) == 1 for found in groups.values())


def test_several_labels_in_a_cell_make_a_matrix(folder):
    names = [path for path, _ in rows(folder)]
    cells = "".join(f"{path},{('a', 'b;a', 'c | b', '')[i % 4]}\n" for i, path in enumerate(names))
    listing = read_list(written(folder, "path,labels\n" + cells))
    assert listing.several
    assert listing.classes == ["a", "b", "c"]
    assert [labels for _, labels in listing.splits["all"][:4]] == [(0,), (1, 0), (2, 1), ()]
    data = load_dataset(TrainConfig(data=str(folder / "list.csv"), image_size=16))
    assert data.several
    assert data.train.labels.shape == (len(data.train), 3)
    held = sum(split.labels.sum(0) for split in (data.train, data.val, data.test))
    assert torch.equal(held, torch.tensor([20.0, 20.0, 10.0]))
    shuffled = load_dataset(TrainConfig(data=str(folder / "list.csv"), image_size=16, split_rule="shuffle"))
    assert (len(shuffled.train), len(shuffled.val), len(shuffled.test)) == (32, 4, 4)


def test_a_label_that_is_repeated_in_a_cell_is_one_label(folder):
    paths = [path for path, _ in rows(folder)]
    cells = "".join(f"{path},{('a;a', 'b; b')[i % 2]}\n" for i, path in enumerate(paths))
    assert not read_list(written(folder, "path,labels\n" + cells)).several


def test_labels_match_a_model_by_name_in_any_order(folder):
    names = [path for path, _ in rows(folder)]
    table = written(
        folder, "path,labels\n" + "".join(f"{path},{('b', 'a;c')[i % 2]}\n" for i, path in enumerate(names))
    )
    preprocess = load_dataset(TrainConfig(data=str(table), image_size=16)).preprocess
    samples, _ = load_split(str(table), preprocess, ["c", "unused", "b", "a"], several=True)
    assert samples.labels[:2].tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]]
    with pytest.raises(UserError, match="the model gives one class per image"):
        load_split(str(table), preprocess, ["a", "b", "c"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("path,lable\nx.png,a\n", "has no column label"),
        ("path,label\nx.png,a\n", "none of its 1 files exists"),
        ("path,label,split\nclass00/0.png,a,later\n", "line 2: the split 'later' is none of train, val, test"),
        ("path,label\nclass00/0.png,a\nclass00/0.png,b\n", "two rows that differ"),
        ("path,label\nclass00/0.png,a\n", "only one class"),
        ("path,label,split\nclass00/0.png\n", "1 cells, but 3 columns"),
    ],
)
def test_a_faulty_list_is_one_line_that_says_where(folder, text, message):
    with pytest.raises(UserError, match=message):
        read_list(written(folder, text))
