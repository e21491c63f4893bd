"""YOLO's labels: one ``.txt`` per image, one line per box: class number, centre x and y, relative width and height.

The class names are in ``data.yaml`` (``names``) or, one per line, in ``classes.txt``. A line with more numbers is a
polygon; its bounding box is the box. An image without a label file, in a folder where others have one, has no boxes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..data.images import ImageError, shown_size
from ..documents import parse_yaml
from ..errors import UserError
from ..names import printable, repeated
from .annotations import Box, Picture, Problems
from .tree import ORDER, Tree

NAME_FILES = ("classes.txt", "obj.names")
LOOKED_AT = 20  # label files inspected to tell whether they are YOLO's


@dataclass(frozen=True)
class YoloLabels:
    """``classes`` by number, the ``labels`` of images, and the images of each split."""

    classes: dict[int, str]
    labels: dict[Path, Path]
    splits: dict[str, list[Path]]
    notices: list[str]


def _numbers(line: str) -> list[float] | None:
    """A label's numbers, or None when it is not a label."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    good = len(values) >= 5 and values[0] >= 0 and values[0] == int(values[0]) and all(map(isfinite, values))
    return values if good else None


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if line.strip()]


def _label_of(image: Path, tree: Tree, texts: dict[str, list[Path]]) -> Path | None:
    """In ``labels`` if the image is in ``images``, beside it, or the only one with its name in its split."""
    found = texts.get(image.stem, [])
    for other in ("labels", "label", "annotations"):
        parts = [other if part in ("images", "imgs", "JPEGImages") else part for part in image.parts]
        mirrored = Path(*parts).with_suffix(".txt")
        if mirrored in found:
            return mirrored
    split = tree.split_of(image)
    fitting = [path for path in found if tree.split_of(path) == split]
    return fitting[0] if len(fitting) == 1 else None


def find_yolo(tree: Tree) -> YoloLabels | None:
    """The YOLO labels below a folder; None when there are none.

    Raises UserError when no file names the classes, or when the folders named in ``data.yaml`` do not exist.
    """
    texts: dict[str, list[Path]] = {}
    for path in tree.of(".txt"):
        if path.name not in NAME_FILES:
            texts.setdefault(path.stem, []).append(path)
    labels = {image: label for image in tree.images if (label := _label_of(image, tree, texts))}
    written = [lines for label in list(labels.values())[:LOOKED_AT] if (lines := _lines(label))]
    if not any(all(_numbers(line) for line in lines) for lines in written):
        return None
    config, classes = _described(tree)
    folders = {label.parent for label in labels.values()} | {image.parent for image in labels}
    images = [image for image in tree.images if image.parent in folders]
    notices: list[str] = []
    return YoloLabels(classes, labels, _splits(tree, images, config, notices), notices)


def _each_once(names: dict[int, str], file: Path) -> dict[int, str]:
    """The names. Raises UserError for one that two classes have: their boxes would be merged."""
    if (name := repeated(names.values())) is not None:
        raise UserError(f"{file}: the class name '{printable(name)}' occurs twice; rename one")
    return names


def _described(tree: Tree) -> tuple[tuple[Path, dict[str, Any]] | None, dict[int, str]]:
    """The YAML file with its content, if there is one, and the class names by number."""
    for path in tree.of(".yaml", ".yml"):
        try:
            content = parse_yaml(path.read_text(encoding="utf-8-sig"), path)
        except (UserError, UnicodeDecodeError):
            continue
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if isinstance(names, dict) and names and all(isinstance(number, int) for number in names):
            return (path, content), _each_once({number: str(name) for number, name in names.items()}, path)
    for path in tree.files:
        if path.name in NAME_FILES:
            return None, _each_once({number: line.strip() for number, line in enumerate(_lines(path))}, path)
    raise UserError(
        f"{tree.root} holds YOLO labels, but neither a data.yaml with names nor a classes.txt: "
        "write the names of classes 0, 1, 2, ... into classes.txt, one per line"
    )


def _splits(
    tree: Tree, images: Sequence[Path], config: tuple[Path, dict[str, Any]] | None, notices: list[str]
) -> dict[str, list[Path]]:
    """The images by the folders named in ``data.yaml``, else by folder names."""
    found: dict[str, list[Path]] = {}
    path, content = config or (tree.root, {})
    for split in ORDER:
        named = content.get(split) or (content.get("valid") if split == "val" else None)
        folders = [folder for entry in _entries(named) if (folder := _folder(entry, path, content, tree))]
        if folders:
            found[split] = [image for image in images if any(image.is_relative_to(folder) for folder in folders)]
    if not found.get("train"):
        return tree.by_split(images)
    if found.get("val") == found["train"]:
        notices.append(f"{path.name} lists the training images as validation too; others are held out for validation")
        found.pop("val")
    return {split: paths for split, paths in found.items() if paths}


def _entries(value: Any) -> list[str]:
    return [str(entry) for entry in (value if isinstance(value, list) else [value] if value else [])]


def _folder(entry: str, path: Path, content: dict[str, Any], tree: Tree) -> Path | None:
    """A folder of images named in ``data.yaml``: relative to its ``path``, to the file, or to the data folder.

    Raises UserError if the entry is a list of images.
    """
    plain = entry.replace("\\", "/")
    below = plain.split("../")[-1]  # Roboflow's paths are one level too high
    for base in (path.parent / str(content.get("path") or ""), path.parent, tree.root):
        for folder in (base / plain, base / below):
            if os.path.isdir(folder) and folder.resolve().is_relative_to(tree.root.resolve()):
                return tree.root / folder.resolve().relative_to(tree.root.resolve())
            if os.path.isfile(folder):
                raise UserError(
                    f"{path}: {entry} is a list of images, which is not supported; put the images into folders "
                    "train, val and test"
                )
    return None


def read_yolo(found: YoloLabels, images: Sequence[Path], problems: Problems) -> list[Picture]:
    """The pictures of a split, unchecked; lines that are not labels become lines in ``problems``."""
    pictures = []
    for image in images:
        try:
            size = shown_size(image)
        except ImageError:  # the sanity pass reports it
            size = (0, 0)
        label = found.labels.get(image)
        lines = [] if label is None else _lines(label)
        boxes = [_box(line, label, found.classes, size, problems) for line in lines if label is not None]
        pictures.append(Picture(image, tuple(box for box in boxes if box is not None), *size))
    return pictures


def _box(line: str, label: Path, classes: dict[int, str], size: tuple[int, int], problems: Problems) -> Box | None:
    values = _numbers(line)
    if values is None:
        problems.add("broken annotation", label.name, f"{line.strip()[:60]!r} is not a label", "skipped")
        return None
    number = int(values[0])
    if number not in classes:
        text = f"class {number} has no name ({len(classes)} classes, numbered from 0)"
        problems.add("unknown class", label.name, text, "box skipped")
        return None
    if len(values) > 6:
        xs, ys = values[1::2], values[2::2]
        x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    else:  # a sixth number is a predicted score
        x, y, w, h = values[1:5]
        x0, y0, x1, y1 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    width, height = size
    return Box(classes[number], x0 * width, y0 * height, x1 * width, y1 * height)
