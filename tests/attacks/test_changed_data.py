"""A resumed run notices other data, even when the counts are equal; damaged and ambiguous data are refused."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.cli.main import main
from residual_attention.data.digest import difference, digest_of
from residual_attention.data.folders import scan_folder
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.shards import read_shards
from residual_attention.errors import UserError
from residual_attention.tasks import resume, train


@pytest.fixture
def data(tmp_path, write_image_folder) -> Path:
    return write_image_folder(tmp_path / "data", each=8, size=20)


def swap_classes(root: Path) -> None:
    (root / "class00").rename(root / "other")
    (root / "class01").rename(root / "class00")
    (root / "other").rename(root / "class01")


def replace_a_file(root: Path) -> None:
    path = min((root / "class00").iterdir())
    Image.new("RGB", (20, 20), (1, 2, 3)).save(path)


def move_between_classes(root: Path) -> None:
    first, second = (min((root / name).iterdir()) for name in ("class00", "class01"))
    first.rename(root / "class01" / "moved-a.png")
    second.rename(root / "class00" / "moved-b.png")


@pytest.mark.parametrize("change", [swap_classes, replace_a_file, move_between_classes])
def test_changed_data_of_equal_counts_are_refused(data, tiny_config, change):
    config = tiny_config(data=str(data), limit_train=None, image_size=16, epochs=1, batch_size=4)
    train(config)
    resume(config.out, epochs=2)
    change(data)
    with pytest.raises(UserError, match=r"has changed since the run started: .* differ; restore"):
        resume(config.out, epochs=3)


def test_moved_data_are_the_same_data(data, tiny_config, tmp_path):
    config = tiny_config(data=str(data), limit_train=None, image_size=16, epochs=1, batch_size=4)
    train(config)
    shutil.move(data, tmp_path / "elsewhere")
    assert resume(config.out, epochs=2, data=str(tmp_path / "elsewhere"))["epochs"] == 2


def test_the_digest_says_what_differs(tmp_path):
    rows = []
    for i in range(3):
        path = tmp_path / f"{i}.png"
        path.write_bytes(bytes([i]) * 10)
        rows.append(("all", path, "class"))
    before = digest_of(rows)
    assert difference(before, digest_of(rows[::-1])) is None
    assert difference({}, before) is None
    rows[1][1].write_bytes(b"x" * 10)
    assert difference(before, digest_of(rows)) == "the contents of its files"
    rows[1][1].write_bytes(b"x" * 11)
    assert difference(before, digest_of(rows)) == "the sizes of its files and the contents of its files"
    assert difference(before, digest_of([*rows[:2], ("all", rows[2][1], "other")])).startswith("the classes")


def test_a_class_whose_images_are_all_unreadable_is_an_error(data):
    for path in (data / "class01").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"no training image of class01 is left; 8 images could not be read"):
        load_dataset(DataRequest(data=str(data), image_size=16))


def shards(folder: Path, labels: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shard = folder / "train-000000.tar"
    with tarfile.open(shard, "w") as archive:
        for i, label in enumerate(labels):
            for name, content in ((f"{i}.cls", label.encode()), (f"{i}.png", _png(folder))):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return shard


def _png(folder: Path) -> bytes:
    path = folder / "one.png"
    Image.new("RGB", (8, 8)).save(path)
    content = path.read_bytes()
    path.unlink()
    return content


def test_a_shard_that_is_cut_off_is_named(tmp_path):
    shard = shards(tmp_path / "shards", ["0", "1"] * 8)
    read_shards(shard.parent, [])
    whole = shard.read_bytes()
    for length in (len(whole) // 2, len(whole) // 2 // 512 * 512, 3 * 512):
        shard.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"train-000000\.tar"):
            read_shards(shard.parent, [])


def test_a_superscript_is_no_class_number(tmp_path):
    shard = shards(tmp_path / "shards", ["²", "1"] * 4)
    classes, _ = read_shards(shard.parent, [])
    assert classes == ["1", "²"]


def test_one_name_for_two_classes_is_an_error(tmp_path):
    shard = shards(tmp_path / "shards", ["0", "1"] * 4)
    (shard.parent / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(UserError, match=r"the class name 'cat' occurs twice"):
        read_shards(shard.parent, [])


def test_class_folders_with_empty_names_cannot_be(tmp_path, write_image_folder):
    root = write_image_folder(tmp_path / "data", each=3)
    (root / "class01").rename(root / " ")
    with pytest.raises(UserError, match="a class has an empty name"):
        scan_folder(root)
    assert main(["train", str(root), "--out", str(tmp_path / "run")]) == 2
