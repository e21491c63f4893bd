"""Every supported layout, from one data set in many formats, and the errors for folders without annotations."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from residual_attention.boxes.annotations import Picture, Pictures
from residual_attention.boxes.coco import as_coco
from residual_attention.detection.config import DetectConfig, detect_defaults
from residual_attention.detection.datasets import DetectionDataset, load_detection, load_detection_split
from residual_attention.errors import UserError

SPLITS = ("train", "val", "test")
Put = Callable[[str, Pictures, Path], None]  # a split's name there, its pictures, the data folder


def load(root: Path, **changes) -> DetectionDataset:
    return load_detection(DetectConfig(data=str(root), **changes))


@pytest.fixture(scope="module")
def shapes(made_voc) -> DetectionDataset:
    return load(made_voc)


def copy(picture: Picture, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(picture.path, folder)


def put_xml(picture: Picture, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(picture.path.parent.parent / "Annotations" / f"{picture.path.stem}.xml", folder)


def put_table(part: Pictures, file: Path, *, sizes: bool = True, delimiter: str = ",") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    size = ("width", "height") if sizes else ()
    rows = [("filename", *size, "class", "xmin", "ymin", "xmax", "ymax")]
    for picture in part.pictures:
        known = (picture.width, picture.height) if sizes else ()
        rows += [(picture.path.name, *known, b.name, b.x0, b.y0, b.x1, b.y1) for b in picture.boxes]
    file.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in rows))


def put_labels(picture: Picture, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for b in picture.boxes:
        middle = (b.x0 + b.x1) / 2 / picture.width, (b.y0 + b.y1) / 2 / picture.height
        size = (b.x1 - b.x0) / picture.width, (b.y1 - b.y0) / picture.height
        lines.append(" ".join(map(str, (("disc", "square").index(b.name), *middle, *size))))
    (folder / f"{picture.path.stem}.txt").write_text("\n".join(lines))


def roboflow_voc(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / name)
        put_xml(picture, root / name)


def split_in_folders(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / name / "images")
        put_xml(picture, root / name / "annotations")


def folders_in_splits(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / "imgs" / name)
        put_xml(picture, root / "Annotations" / name)


def coco_folders(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / name / "images")
    (root / name / "annotations.json").write_text(json.dumps(as_coco(part)))


def coco_named(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / "data")
    (root / f"{name}_annotations.coco.json").write_text(json.dumps(as_coco(part)))


def tensorflow(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / "images" / name)
    put_table(part, root / "data" / f"{name}_labels.csv")


def roboflow_table(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / name)
    put_table(part, root / name / "_annotations.csv", sizes=False)


def roboflow_yolo(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / name / "images")
        put_labels(picture, root / name / "labels")
    key = "val" if name == "valid" else name
    with open(root / "data.yaml", "a") as file:
        file.write(f"{key}: ../{name}/images\n" + ("names: ['disc', 'square']\n" if name == "train" else ""))


def ultralytics(name: str, part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / "images" / f"{name}2017")
        put_labels(picture, root / "labels" / f"{name}2017")
    (root / "classes.txt").write_text("disc\nsquare\n")


GIVEN = {
    "roboflow_voc": (roboflow_voc, "voc"),
    "split_in_folders": (split_in_folders, "voc"),
    "folders_in_splits": (folders_in_splits, "voc"),
    "coco_folders": (coco_folders, "coco"),
    "coco_named": (coco_named, "coco"),
    "tensorflow": (tensorflow, "csv"),
    "roboflow_table": (roboflow_table, "csv"),
    "roboflow_yolo": (roboflow_yolo, "yolo"),
    "ultralytics": (ultralytics, "yolo"),
}


def corners(part: Pictures) -> dict[str, list[tuple]]:
    return {
        p.path.name: [(b.name, *(round(v, 3) for v in (b.x0, b.y0, b.x1, b.y1))) for b in p.boxes]
        for p in part.pictures
    }


@pytest.mark.parametrize("name", GIVEN)
def test_splits_that_are_given_are_kept_and_hold_the_same_boxes(shapes, tmp_path, name):
    put, form = GIVEN[name]
    for split, called in zip(SPLITS, ("train", "valid", "test"), strict=True):
        put(called, getattr(shapes, split), tmp_path / "data")
    for data in (load(tmp_path / "data"), load(tmp_path / "data", test_fraction=0.5)):
        assert (data.form, data.classes) == (form, shapes.classes)
        assert not data.problems.lines
        assert not data.notices
        for split in SPLITS:
            assert corners(getattr(data, split)) == corners(getattr(shapes, split))


def beside(part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root)
        put_xml(picture, root)


def xml_folder(images: str, annotations: str) -> Callable[[Pictures, Path], None]:
    def put(part: Pictures, root: Path) -> None:
        for picture in part.pictures:
            copy(picture, root / images)
            put_xml(picture, root / annotations)

    return put


def json_file(images: str, name: str) -> Callable[[Pictures, Path], None]:
    def put(part: Pictures, root: Path) -> None:
        for picture in part.pictures:
            copy(picture, root / images)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(as_coco(part)))

    return put


def table(part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / "photos")
    put_table(part, root / "boxes.csv", delimiter=";")


def label_studio(part: Pictures, root: Path) -> None:
    for picture in part.pictures:
        copy(picture, root / "images")
        put_labels(picture, root / "labels")
    (root / "classes.txt").write_text("disc\nsquare\n")


WHOLE = {
    "beside": (beside, "voc"),
    "annotations": (xml_folder("images", "annotations"), "voc"),
    "labels": (xml_folder("img", "labels"), "voc"),
    "xmls": (xml_folder("images", "annotations/xmls"), "voc"),
    "Annotations": (xml_folder("images", "Annotations"), "voc"),
    "coco.json": (json_file("images", "_annotations.coco.json"), "coco"),
    "annotations.json": (json_file("images", "annotations.json"), "coco"),
    "cvat": (json_file("images/default", "annotations/instances_default.json"), "coco"),
    "fiftyone": (json_file("data", "labels.json"), "coco"),
    "table": (table, "csv"),
    "label_studio": (label_studio, "yolo"),
}


@pytest.fixture(scope="module")
def everything(shapes) -> Pictures:
    return Pictures(tuple(p for split in SPLITS for p in getattr(shapes, split).pictures), shapes.classes)


@pytest.mark.parametrize("name", WHOLE)
def test_an_unsplit_set_is_read_whole_and_its_splits_are_held_out_and_reported(everything, tmp_path, name):
    put, form = WHOLE[name]
    put(everything, tmp_path / "data")
    data = load(tmp_path / "data", test_fraction=0.25, val_fraction=0.25)
    assert data.form == form
    assert not data.problems.lines
    parts = [getattr(data, split) for split in SPLITS]
    assert {k: v for part in parts for k, v in corners(part).items()} == corners(everything)
    assert sum(map(len, parts)) == 16
    assert 2 <= len(data.test) <= 6
    assert all(set(part.counts()) == {"disc", "square"} for part in parts)
    assert data.notices == [
        f"no test split: {len(data.test)} of 16 images are held out for it",
        f"no validation split: {len(data.val)} of {16 - len(data.test)} training images are held out for it",
    ]


def test_defaults_hold_out_a_test_and_a_configuration_from_before_does_not(everything, tmp_path):
    beside(everything, tmp_path / "data")
    assert detect_defaults().test_fraction == 0.1
    older = {**detect_defaults().to_dict(), "data": str(tmp_path / "data")}
    del older["test_fraction"], older["split_rule"]
    before = load_detection(DetectConfig.from_dict(older))
    assert before.test is None
    assert (len(before.train), len(before.val)) == (14, 2)
    assert [p.path.stem for p in before.val.pictures] == ["0008", "0012"]  # as then, from a seed of 0


def test_a_file_of_boxes_alone_is_data_too(everything, tmp_path, shapes):
    table(everything, tmp_path / "one")
    json_file("images", "annotations/boxes.json")(everything, tmp_path / "two")
    for file in (tmp_path / "one" / "boxes.csv", tmp_path / "two" / "annotations" / "boxes.json"):
        assert corners(load(file, val_fraction=0).train) == corners(everything)
        found = load_detection_split(str(file), "test", shapes.classes, DetectConfig())
        assert len(found.test) == 16
    tensorflow("train", shapes.train, tmp_path / "three")
    assert len(load(tmp_path / "three" / "data" / "train_labels.csv", val_fraction=0).train) == 8


def test_a_split_of_another_layout_is_evaluated(shapes, tmp_path):
    for split in SPLITS:
        roboflow_voc(split, getattr(shapes, split), tmp_path)
    found = load_detection_split(str(tmp_path), "test", shapes.classes, DetectConfig())
    assert corners(found.test) == corners(shapes.test)


@pytest.mark.parametrize("name", ["annotations", "Annotations", "annotations.json", "table"])
def test_images_that_are_split_split_annotations_that_are_not(shapes, everything, tmp_path, name):
    put, _ = WHOLE[name]
    put(everything, tmp_path)
    images = next(tmp_path / folder for folder in ("images", "photos") if (tmp_path / folder).is_dir())
    for split in SPLITS:
        (images / split).mkdir()
        for picture in getattr(shapes, split).pictures:
            (images / picture.path.name).rename(images / split / picture.path.name)
    if name == "annotations":
        next((tmp_path / "annotations").iterdir()).write_text("<annotation>")
    data = load(tmp_path, test_fraction=0.5)
    for split in ("val", "test"):
        assert corners(getattr(data, split)) == corners(getattr(shapes, split))
    assert len(data.train) == (7 if name == "annotations" else 8)
    assert len(data.problems.lines) == (name == "annotations")


def test_files_outside_of_the_held_out_folders_are_for_training(shapes, tmp_path):
    beside(shapes.train, tmp_path)
    roboflow_voc("test", shapes.test, tmp_path)
    data = load(tmp_path, test_fraction=0.5, val_fraction=0)
    assert corners(data.train) == corners(shapes.train)
    assert corners(data.test) == corners(shapes.test)


def test_images_of_one_name_in_two_splits_are_told_apart(shapes, tmp_path):
    for split in ("train", "test"):
        for i, picture in enumerate(getattr(shapes, split).pictures):
            for source, folder, suffix in (
                (picture.path, "images", "jpg"),
                (picture.path.parent.parent / "Annotations" / f"{picture.path.stem}.xml", "annotations", "xml"),
            ):
                (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, tmp_path / folder / split / f"{i}.{suffix}")
    (tmp_path / "images" / "train" / "0.jpg").unlink()  # test has an image of this name, which must not be used instead
    data = load(tmp_path, val_fraction=0)
    assert (len(data.train), len(data.test)) == (7, 4)
    assert {p.path.parent.name for p in data.train.pictures} == {"train"}
    assert data.problems.kinds == {"missing image": 1}


def test_an_image_that_two_files_fit_is_not_guessed(shapes, tmp_path):
    picture = shapes.train.pictures[0]
    xml_folder("images", "annotations")(shapes.train, tmp_path)
    copy(picture, tmp_path / "more")
    data = load(tmp_path, val_fraction=0)
    assert len(data.train) == 7
    assert data.problems.lines == [f"{picture.path.stem}.xml: several images match it equally well; image skipped"]


def test_ignored_files_are_reported(shapes, tmp_path):
    beside(shapes.train, tmp_path)
    copy(shapes.test.pictures[0], tmp_path)
    put_table(shapes.train, tmp_path / "labels.csv")
    notices = load(tmp_path).notices
    assert "1 of 9 images have no annotation file and are skipped" in notices
    assert "boxes are read from the .xml files; ignored: 1 .csv" in notices


def test_the_splits_of_data_yaml_are_those_that_it_names(everything, tmp_path):
    for i, picture in enumerate(everything.pictures):
        copy(picture, tmp_path / ("first", "second")[i % 2] / "images")
        put_labels(picture, tmp_path / ("first", "second")[i % 2] / "labels")
    config = tmp_path / "data.yaml"
    config.write_text("path: .\ntrain: [first/images]\nval: second/images\nnames: {0: disc, 1: square}\n")
    data = load(tmp_path, test_fraction=0.5)
    assert {p.path.parent.parent.name for p in data.train.pictures} == {"first"}
    assert {p.path.parent.parent.name for p in data.val.pictures} == {"second"}
    config.write_text("train: first/images\nval: first/images\nnames: [disc, square]\n")
    data = load(tmp_path, val_fraction=0.25)
    assert len(data.train) + len(data.val) == 8
    assert "data.yaml lists the training images as validation too; others are held out for validation" in data.notices
    (tmp_path / "list.txt").write_text("first/images/0000.jpg\n")
    config.write_text("train: list.txt\nnames: [disc, square]\n")
    with pytest.raises(UserError, match=r"list\.txt is a list of images, which is not supported; put"):
        load(tmp_path)


def test_labels_without_boxes_outlines_and_broken_lines(everything, tmp_path):
    label_studio(everything, tmp_path)
    labels = sorted((tmp_path / "labels").glob("*.txt"))
    labels[0].unlink()
    labels[1].write_text("")
    labels[2].write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n")  # a triangle
    labels[3].write_text("0 0.5 0.5\n")
    labels[4].write_text("7 0.5 0.5 0.5 0.5\n")
    labels[5].write_text("0 0.5 0.5 0.5 0.5 0.99\n")
    data = load(tmp_path, val_fraction=0)
    boxes = {p.path.stem: p.boxes for p in data.train.pictures}
    assert len(boxes) == 16
    assert boxes["0000"] == boxes["0001"] == ()
    triangle = boxes["0002"][0]
    assert (triangle.x0, triangle.y0, triangle.x1, triangle.y1) == (24, 18, 72, 54)
    assert data.problems.lines == [
        "0003.txt: '0 0.5 0.5' is not a label; skipped",
        "0004.txt: class 7 has no name (2 classes, numbered from 0); box skipped",
    ]
    assert (boxes["0005"][0].x0, boxes["0005"][0].y1) == (24, 54)


def test_incomplete_rows_of_a_table_are_reported(everything, tmp_path):
    table(everything, tmp_path)
    with open(tmp_path / "boxes.csv", "a") as file:
        file.write("0000.jpg;96;72;;1;1;9;9\n;96;72;disc;1;1;9;9\n0001.jpg;96;72;disc;one;1;9;9\n\n")
        file.write("nowhere.jpg;96;72;disc;1;1;9;9\n.;96;72;disc;1;1;9;9\n")
    (tmp_path / "photos" / "0016.jpg").write_bytes((tmp_path / "photos" / "0000.jpg").read_bytes())
    with open(tmp_path / "boxes.csv", "a") as file:
        file.write("0016;;;;;;;\n")
    data = load(tmp_path, val_fraction=0)
    assert data.problems.kinds == {"broken row": 2, "non-numeric box": 1, "missing image": 1, "unreadable image": 1}
    assert "boxes.csv: line 34 has no class; skipped" in data.problems.lines
    assert "boxes.csv: line 35 has no file name; skipped" in data.problems.lines
    assert data.train.pictures[-1].boxes == ()
    assert len(data.train) == 17


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


REFUSED = {
    "empty": ((), r"no boxes found in .* \(no files\): expected images with PASCAL VOC's \.xml files"),
    "images alone": (
        (("a.jpg", ""), ("b/c.jpg", ""), ("d.md", "")),
        r"no boxes found in .* \(2 \.jpg and 1 \.md files\): expected",
    ),
    "xml of another root": ((("a.jpg", ""), ("a.xml", "<svg/>")), r"a\.xml starts with <svg>, not with <annotation>"),
    "no xml": ((("a.jpg", ""), ("a.xml", "hello")), r"a\.xml is not XML"),
    "json that is not coco": (
        (("a.jpg", ""), ("a.json", "{}")),
        r"a\.json is not in COCO's format: it has no list 'images'",
    ),
    "json list": (
        (("a.jpg", ""), ("a.json", "[]")),
        r"a\.json is not in COCO's format: its top level is not an object",
    ),
    "columns": (
        (("a.jpg", ""), ("a.csv", "image,label,x,y\na.jpg,cat,1,2\n")),
        r"a\.csv has no column xmin, ymin, xmax, ymax: its first line is 'image, label, x, y'; "
        r"name its columns filename, class, xmin, ymin, xmax, ymax",
    ),
    "no header": ((("a.csv", "a.jpg,1,2,3,4,cat\n"),), r"has no column filename, class, .*first line is 'a.jpg, 1, 2"),
    "empty table": ((("a.csv", ""),), r"has no column .*first line is 'empty'"),
    "no images": (
        (("annotations/a.xml", "<annotation/>"),),
        r"holds 1 \.xml file but no images; put them beside the annotations or in a folder named images",
    ),
    "two tables": (
        (("a.jpg", ""), *((f"{name}.csv", "filename,class,xmin,ymin,xmax,ymax\n") for name in "ab")),
        r"2 \.csv files are in no split \(a\.csv, b\.csv\); keep one, or name the files",
    ),
    "outside": (
        (("train/a.xml", "<annotation/>"), ("b.xml", "<annotation/>"), ("b.jpg", "")),
        r"b\.xml is in no split, but train/a\.xml is; name it or its folder train, val or test",
    ),
    "classes without names": (
        (("images/a.jpg", ""), ("labels/a.txt", "0 0.5 0.5 0.5 0.5\n")),
        r"holds YOLO labels, but neither a data\.yaml with names nor a classes\.txt",
    ),
    "every image missing": (
        (("other.jpg", ""), ("a.csv", "filename,class,xmin,ymin,xmax,ymax\nb.jpg,cat,1,2,3,4\n")),
        r"no valid box in 1 training images\. .*b\.jpg: no such file; skipped",
    ),
    "nothing to train on": (
        (("a.jpg", ""), ("test/a.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,3,4\n")),
        r"no training images\. its splits are test",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_errors_say_what_was_found_and_what_to_do(tmp_path, kind):
    files, message = REFUSED[kind]
    for name, text in files:
        write(tmp_path, name, text)
    with pytest.raises(UserError, match=message) as refused:
        load(tmp_path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_another_file_as_data_is_refused(tmp_path):
    write(tmp_path, "data.yaml", "names: [a]\n")
    with pytest.raises(
        UserError, match=r"data\.yaml is neither a folder nor a \.json or \.csv file of boxes; give its"
    ):
        load(tmp_path / "data.yaml")


def test_a_validation_file_that_is_not_read_is_reported(shapes, tmp_path):
    json_file("images", "train.json")(shapes.train, tmp_path)
    json_file("images", "validation.json")(shapes.val, tmp_path)
    notices = load(tmp_path).notices
    assert notices[0] == "validation.json is not read; rename it to val.json if it is the val split"


def test_the_lists_of_a_voc_folder_inside_the_data_folder_are_kept(made_voc, shapes, tmp_path):
    shutil.copytree(made_voc, tmp_path / "unpacked" / "shapes")
    (tmp_path / "unpacked" / "LICENSE").write_text("MIT")
    data = load(tmp_path / "unpacked")
    assert [len(getattr(data, split)) for split in SPLITS] == [8, 4, 4]
    assert "the boxes and splits are those of shapes" in data.notices
    shutil.copytree(made_voc, tmp_path / "unpacked" / "again")  # whose lists? neither's
    assert not any("splits are those of" in notice for notice in load(tmp_path / "unpacked").notices)
