"""How VOC and COCO annotations are read, and how faulty ones are reported."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.boxes.annotations import Problems
from residual_attention.boxes.coco import as_coco, read_coco
from residual_attention.boxes.voc import read_voc
from residual_attention.detection.config import DetectConfig
from residual_attention.detection.datasets import load_detection


def config_of(data: Path, **changes) -> DetectConfig:
    return DetectConfig(data=str(data), **changes)


def test_voc_corners_count_from_one_and_include_both_ends(made_voc):
    train = load_detection(config_of(made_voc)).train
    assert train is not None
    first = train.pictures[0]
    assert (first.width, first.height) == (96, 72)
    box = first.boxes[0]
    assert box.name in ("disc", "square")
    xml = (made_voc / "Annotations" / f"{first.path.stem}.xml").read_text()
    assert f"<xmin>{int(box.x0) + 1}</xmin>" in xml
    assert f"<xmax>{int(box.x1)}</xmax>" in xml


def test_splits_are_the_lists_and_classes_come_from_training(made_voc):
    data = load_detection(config_of(made_voc))
    assert (data.form, data.classes) == ("voc", ("disc", "square"))
    assert [len(split) for split in (data.train, data.val, data.test)] == [8, 4, 4]
    assert not data.problems.lines


def test_a_voc_devkit_above_the_year_and_trainval_alone(made_voc, tmp_path):
    shutil.copytree(made_voc, tmp_path / "VOCdevkit" / "VOC2007")
    lists = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    for name in ("train", "val", "test"):
        (lists / f"{name}.txt").unlink()
    data = load_detection(config_of(tmp_path, val_fraction=0.25))
    assert [len(split) for split in (data.train, data.val)] == [9, 3]
    assert data.test is None
    assert any("3 of 12 training images are held out" in notice for notice in data.notices)
    assert any("no test split" in notice for notice in data.notices)


def test_annotations_without_lists_are_one_training_set(made_voc, tmp_path):
    shutil.copytree(made_voc, tmp_path / "voc")
    shutil.rmtree(tmp_path / "voc" / "ImageSets")
    data = load_detection(config_of(tmp_path / "voc"))
    assert len(data.train) + len(data.val) == 16


def as_coco_folder(made_voc: Path, root: Path) -> Path:
    data = load_detection(config_of(made_voc))
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (root / split).mkdir()
        part = getattr(data, split)
        for picture in part.pictures:
            shutil.copy(picture.path, root / split)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(as_coco(part)))
    return root


def test_a_coco_copy_holds_the_same_boxes(made_voc, tmp_path):
    voc, coco = load_detection(config_of(made_voc)), load_detection(config_of(as_coco_folder(made_voc, tmp_path)))
    assert coco.form == "coco"
    assert coco.classes == voc.classes
    for split in ("train", "val", "test"):
        ours, theirs = getattr(voc, split).pictures, getattr(coco, split).pictures
        assert [p.boxes for p in ours] == [p.boxes for p in theirs]
        assert [p.path.name for p in ours] == [p.path.name for p in theirs]


def test_difficult_and_crowd_boxes_are_ignored_ones(made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    train = load_detection(config_of(root)).train
    name = train.pictures[0].path.stem
    path = root / "Annotations" / f"{name}.xml"
    path.write_text(path.read_text().replace("<difficult>0</difficult>", "<difficult>1</difficult>", 1))
    changed = load_detection(config_of(root)).train
    assert [box.ignored for box in changed.pictures[0].boxes].count(True) == 1
    assert sum(changed.counts().values()) == sum(train.counts().values()) - 1
    entries = as_coco(changed)["annotations"]
    assert [entry["iscrowd"] for entry in entries].count(1) == 1
    copied = tmp_path / "train.json"
    copied.write_text(json.dumps(as_coco(changed, tmp_path)))
    assert [p.boxes for p in read_coco(copied, Problems())] == [p.boxes for p in changed.pictures]


def test_roboflow_and_official_layouts_are_found(made_voc, tmp_path):
    coco = as_coco_folder(made_voc, tmp_path / "one")
    robo = tmp_path / "robo"
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        shutil.copytree(coco / split, robo / name)
        shutil.copy(coco / "annotations" / f"{split}.json", robo / name / "_annotations.coco.json")
    assert [len(getattr(load_detection(config_of(robo)), s)) for s in ("train", "val", "test")] == [8, 4, 4]
    official = tmp_path / "official"
    for split, name in (("train", "train2017"), ("val", "val2017")):
        shutil.copytree(coco / split, official / name)
        (official / "annotations").mkdir(exist_ok=True)
        shutil.copy(coco / "annotations" / f"{split}.json", official / "annotations" / f"instances_{name}.json")
    data = load_detection(config_of(official, val_fraction=0.25))
    assert [len(getattr(data, s)) for s in ("train", "val", "test")] == [6, 2, 4]
    assert any("val serves as the test split" in notice for notice in data.notices)


BROKEN = {  # one kind of fault each: how a file is corrupted, and the report
    "missing annotation": (lambda root, name: (root / "Annotations" / f"{name}.xml").unlink(), "no such file"),
    "broken annotation": (
        lambda root, name: (root / "Annotations" / f"{name}.xml").write_text("<annotation><object>"),
        "not valid XML",
    ),
    "missing image": (lambda root, name: (root / "JPEGImages" / f"{name}.jpg").unlink(), "no such file"),
    "unreadable image": (
        lambda root, name: (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"not an image"),
        "not an image",
    ),
    "wrong image size": (lambda root, name: spoil(root, name, "width", "640"), "its annotation says 640x72"),
    "box outside the image": (
        lambda root, name: spoil(root, name, "xmin", "300") or spoil(root, name, "xmax", "340"),
        "lies outside the image (96x72 px)",
    ),
    "box across the border": (lambda root, name: spoil(root, name, "xmax", "140"), "extends beyond the image"),
    "inverted box": (
        lambda root, name: spoil(root, name, "xmin", "60") or spoil(root, name, "xmax", "20"),
        "is inverted",
    ),
    "empty box": (lambda root, name: spoil(root, name, "xmin", "20") or spoil(root, name, "xmax", "20"), "is empty"),
    "non-numeric box": (lambda root, name: spoil(root, name, "ymin", "nine"), "has non-numeric coordinates"),
    "object without a name or box": (lambda root, name: spoil(root, name, "name", ""), "an object has no name"),
    "unknown class": (lambda root, name: spoil(root, name, "name", "triangle"), "'triangle' is not a training class"),
}


def spoil(root: Path, name: str, tag: str, value: str) -> None:
    """Set the first ``tag`` of an annotation to another value."""
    path = root / "Annotations" / f"{name}.xml"
    before, _, rest = path.read_text().partition(f"<{tag}>")
    path.write_text(f"{before}<{tag}>{value}</{tag}>{rest.partition(f'</{tag}>')[2]}")


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_fault_is_reported_and_skipped_or_stops_the_run(made_voc, tmp_path, kind):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    # an unknown class is one that is not in training; the other faults may be in any split
    split = "val" if kind == "unknown class" else "train"
    name = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[0]
    damage, said = BROKEN[kind]
    damage(root, name)
    data = load_detection(config_of(root))
    assert dict(data.problems.kinds) == {kind: 1}
    line = data.problems.lines[0]
    assert name in line
    assert said in line
    assert "\n" not in line
    assert any("1 problem in the annotations" in notice for notice in data.notices)
    with pytest.raises(ValueError, match=r"1 problem in the annotations .*--problems skip"):
        load_detection(config_of(root, problems="stop"))


def test_faults_of_coco_files_are_reported_too(made_voc, tmp_path):
    root = as_coco_folder(made_voc, tmp_path / "coco")
    path = root / "annotations" / "train.json"
    good = json.loads(path.read_text())
    content = json.loads(path.read_text())
    content["images"].append({"id": 1, "file_name": "again.jpg"})
    content["annotations"][0]["image_id"] = 999
    content["annotations"][1]["category_id"] = 77
    content["annotations"][2]["bbox"] = [1, 2, 3]
    content["annotations"].append(None)
    content["images"][0]["width"] = "wide"
    path.write_text(json.dumps(content))
    kinds = load_detection(config_of(root)).problems.kinds
    named = {"broken image entry", "annotation without an image", "unknown class", "non-numeric box", "broken entry"}
    assert set(kinds) == named
    del content["images"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"train\.json is not in COCO's format: it has no list 'images'"):
        load_detection(config_of(root))
    path.write_text("{")
    with pytest.raises(ValueError, match=r"train\.json is not valid JSON"):
        load_detection(config_of(root))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"train\.json is not valid JSON"):
        load_detection(config_of(root))
    path.write_text(json.dumps({**good, "annotations": []}))
    with pytest.raises(ValueError, match="no valid box in 8 training images"):
        load_detection(config_of(root))


def test_trainval_beside_val_leaves_the_validation_images_out(made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    (root / "ImageSets/Main/train.txt").unlink()
    data = load_detection(config_of(root))
    assert [len(data.train), len(data.val)] == [8, 4]
    assert not {p.path for p in data.train.pictures} & {p.path for p in data.val.pictures}


def test_names_with_spaces_and_a_byte_order_mark(made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    names = (root / "ImageSets/Main/train.txt").read_text().split()
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (root / folder / f"{names[0]}.{suffix}").rename(root / folder / f"my image.{suffix}")
    lines = ["my image  1", *(f"{name} -1" for name in names[1:])]
    (root / "ImageSets/Main/train.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    data = load_detection(config_of(root))
    assert len(data.train) == 8
    assert not data.problems.lines


def test_lists_as_people_write_them(made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    lists = root / "ImageSets" / "Main"
    names = (lists / "train.txt").read_text().split()
    (lists / "train.txt").write_bytes("\r\n".join(f"{name}.jpg" for name in [*names, names[0]]).encode())
    (lists / "val.txt").write_text((lists / "val.txt").read_text() + names[1])
    data = load_detection(config_of(root))
    assert dict(data.problems.kinds) == {"image listed twice": 1, "image in two splits": 1}
    assert [len(data.train), len(data.val)] == [7, 5]
    (lists / "train.txt").write_text("nothing\n")
    with pytest.raises(ValueError, match=r"no training images\. nothing\.xml: no such file"):
        load_detection(config_of(root))


def test_a_wrong_folder_is_one_line(tmp_path, made_voc):
    with pytest.raises(ValueError, match="no folder at"):
        load_detection(config_of(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no boxes found in"):
        load_detection(config_of(tmp_path))
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(ValueError, match=r"is neither a folder nor a \.json or \.csv file of boxes"):
        load_detection(config_of(tmp_path / "list.txt"))
    with pytest.raises(ValueError, match="max_size must be at least image_size"):
        replace(config_of(made_voc), max_size=100)


def test_an_image_turned_by_exif_has_its_boxes_as_shown(made_voc, tmp_path):
    root = shutil.copytree(made_voc, tmp_path / "voc")
    name = (root / "ImageSets" / "Main" / "train.txt").read_text().split()[0]
    path = root / "JPEGImages" / f"{name}.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    assert load_detection(config_of(root)).problems.kinds == {"wrong image size": 1}
    for tag, value in (("width", "72"), ("height", "96")):
        spoil(root, name, tag, value)
    assert not load_detection(config_of(root)).problems.kinds["wrong image size"]


def test_reading_alone_leaves_faults_to_the_check(made_voc):
    problems = Problems()
    pictures = read_voc(made_voc, ["0000", "missing"], problems)
    assert len(pictures) == 1
    assert problems.lines == ["missing.xml: no such file in Annotations; image skipped"]
