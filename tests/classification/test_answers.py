"""Predictions as text, as a table, and as copies in class folders."""

import csv
from pathlib import Path

import pytest

from residual_attention.classification.answers import check_csv, check_sorting, sort_into, text_lines, write_csv
from residual_attention.classification.predict import Prediction, Unread
from residual_attention.errors import UserError

TOP = [("cat", 0.75), ("horse", 0.25)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "b").mkdir(parents=True)
    for name, text in (("photos/a.jpg", "first"), ("photos/b/a.jpg", "second")):
        (tmp_path / name).write_text(text)
    return tmp_path / "photos"


def test_text_is_aligned_and_says_what_is_unsure_or_unlike():
    lines = text_lines([Prediction("a.png", TOP, unlike=True), Prediction("longer.png", TOP, unsure=True)])
    assert lines == [
        "a.png        cat       75.0 %   horse 25.0 %               unlike the training images",
        "longer.png   unsure    75.0 %   cat 75.0 %  horse 25.0 %",
    ]
    assert text_lines([]) == []


def test_the_table_has_a_row_for_every_image_also_for_those_that_cannot_be_read(tmp_path):
    odd = 'b, "odd"\nname\udcff.png'  # a file name that is not UTF-8
    found = [Prediction("a.png", TOP, unsure=True), Prediction(odd, TOP, unsure=False, unlike=True)]
    write_csv(found, [Unread(Path("c.png"), "c.png: not an image")], tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="", errors="surrogateescape") as file:
        first, second, third = csv.DictReader(file)
    assert (first["class"], first["unsure"], first["probability"]) == ("unsure", "true", "0.750000")
    assert (second["path"], second["class"], second["unlike_training"]) == (odd, "cat", "true")
    assert (second["class_2"], second["probability_2"]) == ("horse", "0.250000")
    assert (third["class"], third["error"]) == ("", "c.png: not an image")


def test_a_table_is_not_written_over_an_image(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.csv"):
        check_csv(tmp_path / "photo.jpg")
    with pytest.raises(UserError, match="no folder"):
        check_csv(tmp_path / "nothing" / "out.csv")


def test_sorting_copies_without_overwriting_and_once(photos, tmp_path):
    found = [Prediction(str(photos / "a.jpg"), TOP), Prediction(str(photos / "b" / "a.jpg"), TOP)]
    out = tmp_path / "sorted"
    (out / "cat").mkdir(parents=True)
    (out / "cat" / "a.jpg").write_text("kept")
    assert sort_into(found, out) == (2, 0)
    assert sort_into(found, out) == (0, 2)
    assert {path.name: path.read_text() for path in (out / "cat").iterdir()} == {
        "a.jpg": "kept",
        "a-2.jpg": "first",
        "a-3.jpg": "second",
    }
    assert (photos / "a.jpg").read_text() == "first"


@pytest.mark.parametrize("name", ["../../up", "/etc", "a/b", "..", "a\\b"])
def test_a_class_name_cannot_lead_out_of_the_folder(photos, tmp_path, name):
    sort_into([Prediction(str(photos / "a.jpg"), [(name, 1.0)])], tmp_path / "x" / "y" / "sorted")
    (copy,) = (path for path in tmp_path.rglob("a.jpg") if not path.is_relative_to(photos))
    assert copy.parent.parent == tmp_path / "x" / "y" / "sorted"


def test_sorting_into_the_images_own_folder_is_refused(photos, tmp_path):
    with pytest.raises(UserError, match="is inside"):
        check_sorting(photos / "sorted", [str(photos)])
    with pytest.raises(UserError, match="not a folder"):
        check_sorting(photos / "a.jpg", ["x.jpg"])
    check_sorting(tmp_path / "sorted", [str(photos)])
