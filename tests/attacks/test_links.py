"""Links, loops, pipes and devices: no folder is read twice, and nothing without an end is read."""

import os
from pathlib import Path

import pytest

from residual_attention.boxes.tree import Tree
from residual_attention.cli.main import main
from residual_attention.data.folders import images_below, scan_folder
from residual_attention.data.images import ImageError, read_image


def counts(root: Path) -> dict[str, int]:
    listing = scan_folder(root)
    return {name: sum(label == i for _, label in listing.splits["all"]) for i, name in enumerate(listing.classes)}


def test_a_link_to_a_folder_above_adds_nothing(tmp_path, write_image_folder):
    root = write_image_folder(tmp_path / "data", each=8)
    before = counts(root)
    (root / "class00" / "up").symlink_to("..")
    (root / "class01" / "above").symlink_to(tmp_path)
    assert counts(root) == before
    assert any(
        "links to folders that are read already: class00/up, class01/above" in n for n in scan_folder(root).notices
    )


def test_two_folders_that_link_to_each_other_end(tmp_path, write_image_folder):
    root = write_image_folder(tmp_path / "data", each=4)
    (root / "class00" / "other").symlink_to(root / "class01")
    (root / "class01" / "other").symlink_to(root / "class00")
    found = list(images_below(root))
    assert len(found) == len({path.resolve() for path in found}) == 8
    assert len(Tree(root).images) == 8


def test_a_link_to_itself_is_left_out(tmp_path, write_image_folder):
    root = write_image_folder(tmp_path / "data", each=4)
    (root / "class00" / "me.png").symlink_to("me.png")
    (root / "class00" / "loop").symlink_to("loop")
    assert counts(root) == {"class00": 4, "class01": 4}
    assert len(Tree(root).images) == 8


def test_links_to_data_elsewhere_are_followed(tmp_path, write_image_folder):
    store = write_image_folder(tmp_path / "store", each=4)
    root = tmp_path / "data"
    root.mkdir()
    for name in ("class00", "class01"):
        (root / name).symlink_to(store / name)
    assert counts(root) == {"class00": 4, "class01": 4}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_image(tmp_path, write_image_folder, capsys):
    root = write_image_folder(tmp_path / "data", each=4)
    pipe = root / "class00" / "x.png"
    os.mkfifo(pipe)
    assert counts(root) == {"class00": 4, "class01": 4}
    assert len(Tree(root).images) == 8
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(pipe)
    assert main(["predict", "attention56_cifar.digits", str(pipe)]) == 2
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_a_device_is_no_file_of_boxes(tmp_path, write_image_folder, capsys):
    root = write_image_folder(tmp_path / "data", each=4)
    arguments = ["attend", "attention56_cifar.digits", str(root), "--measure", "--boxes", "/dev/zero"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "/dev/zero is not a regular file" in capsys.readouterr().err
