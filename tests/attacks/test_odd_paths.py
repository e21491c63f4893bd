"""Paths in lists and annotations that no system has: with a NUL character, or longer than a name may be."""

import json
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.detection.config import DetectConfig
from residual_attention.detection.datasets import load_detection
from residual_attention.errors import UserError

LONG = "a" * 300 + ".png"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(8):
        Image.new("RGB", (20, 20), (60 * i, 9, 9)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_list_with_a_nul_character_names_its_line(pictures: Path) -> None:
    (pictures / "list.csv").write_text("path,label\n0.png,a\n1\0.png,b\n")
    with pytest.raises(UserError, match=r"list\.csv is not text: it has a NUL character in line 3"):
        load_dataset(DataRequest(data=str(pictures / "list.csv")))


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_a_name_in_a_list_that_is_too_long_is_a_missing_file(pictures: Path, name: str) -> None:
    separator, header = (",", "path,label\n") if name.endswith("csv") else (" ", "")
    rows = [f"{i}.png{separator}{'ab'[i % 2]}" for i in range(8)]
    (pictures / name).write_text(header + "\n".join([*rows, f"{LONG}{separator}b"]))
    found = load_dataset(DataRequest(data=str(pictures / name), val_fraction=0.0, test_fraction=0.0))
    assert any("left out 1 unreadable training image:" in notice and LONG in notice for notice in found.notices)
    assert found.train is not None
    assert len(found.train) == 8
    (pictures / name).write_text(f"{header}{LONG}{separator}b")
    with pytest.raises(UserError, match="none of its 1 files exists"):
        load_dataset(DataRequest(data=str(pictures / name)))


def test_a_name_in_annotations_that_is_too_long_is_a_missing_image(pictures: Path) -> None:
    names = [*(f"{i}.png" for i in range(8)), LONG]
    content = {
        "images": [{"id": i, "file_name": name, "width": 20, "height": 20} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 8, 8]} for i in range(9)],
    }
    (pictures / "annotations.json").write_text(json.dumps(content))
    found = load_detection(DetectConfig(data=str(pictures)))
    assert any("1 missing image" in notice for notice in found.notices)
