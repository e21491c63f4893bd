"""COCO's format: a JSON per split with ``images``, ``annotations`` (``bbox`` = x, y, width, height), ``categories``."""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from .annotations import Box, Picture, Pictures, Problems
from .tree import Tree

LISTS = ("images", "annotations", "categories")


def find_coco(root: Path) -> dict[str, Path]:
    """The annotation file of each split: ``annotations/instances_<split><year>.json``, ``annotations/<split>.json``,
    ``<split>/_annotations.coco.json``, or ``<split>.json``; ``valid`` means val.
    """
    found: dict[str, Path] = {}
    for split, names in (("train", ("train",)), ("val", ("val", "valid")), ("test", ("test",))):
        for name in names:
            patterns = (
                f"annotations/instances_{name}*.json",
                f"annotations/{name}.json",
                f"{name}/_annotations.coco.json",
                f"{name}.json",
            )
            files = [path for pattern in patterns for path in sorted(root.glob(pattern), reverse=True)]
            if files and split not in found:
                found[split] = files[0]
    return found


def _image_folders(file: Path) -> list[Path]:
    """Where the images of an annotation file may be: beside it, or in a folder named after the split."""
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    split = file.stem.removeprefix("instances_")
    names = dict.fromkeys((split, split.rstrip("0123456789")))
    folders = [base / name for name in names if name for base in (root, root / "images")]
    return [*folders, root / "images", root / "JPEGImages", file.parent, root]


def _parsed(file: Path) -> dict[str, Any]:
    """Raises UserError when the file is not in COCO's format."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is not in COCO's format: its top level is not an object")
    for key in LISTS:
        if not isinstance(content.get(key), list):
            raise UserError(f"{file} is not in COCO's format: it has no list {key!r}")
    return content


def find_json(tree: Tree) -> tuple[list[Path], str]:
    """COCO files below a folder, or why its JSON files are not COCO's."""
    return tree.usable(".json", _parsed)


def _load(file: Path, problems: Problems) -> dict[str, Any]:
    content = _parsed(file)
    for key in LISTS:
        entries = [entry for entry in content[key] if isinstance(entry, dict)]
        if len(entries) < len(content[key]):
            text = f"{len(content[key]) - len(entries)} entries of {key!r} are not objects"
            problems.add("broken entry", file.name, text, "skipped")
        content[key] = entries
    return content


def _whole(value: Any) -> int:
    """A width or height; 0 (not known) for anything but a positive number."""
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def _box(entry: dict[str, Any], name: str) -> Box:
    try:
        x, y, width, height = (float(value) for value in entry["bbox"])
    except (KeyError, TypeError, ValueError):
        x = y = width = height = float("nan")
    return Box(name, x, y, x + width, y + height, str(entry.get("iscrowd", 0)).lower() in ("1", "true"))


def read_coco(file: Path, problems: Problems, tree: Tree | None = None) -> list[Picture]:
    """The pictures of an annotation file, unchecked; entries with dangling references are lines in ``problems``.

    Images outside the usual folders are searched for in ``tree``, the data folder. Raises UserError when the file is
    not in COCO's format at all.
    """
    content, tree = _load(file, problems), tree or Tree.around(file)
    names = {str(entry.get("id")): str(entry.get("name", "")).strip() for entry in content["categories"]}
    boxes: dict[Any, list[Box]] = {}
    images: dict[Any, dict[str, Any]] = {}
    for entry in content["images"]:
        number = str(entry.get("id"))
        if number in images or not entry.get("file_name"):
            why = f"the image id {number} occurs twice" if number in images else f"image {number} has no file_name"
            problems.add("broken image entry", file.name, f"{why}", "skipped")
            continue
        images[number] = entry
        boxes[number] = []
    for entry in content["annotations"]:
        image, category = str(entry.get("image_id")), str(entry.get("category_id"))
        if image not in images:
            text = f"annotation {entry.get('id')} refers to image {image}, which is not listed"
            problems.add("annotation without an image", file.name, text, "skipped")
        elif category not in names:
            text = f"annotation {entry.get('id')} refers to category {category}, which is not listed"
            problems.add("unknown class", file.name, text, "skipped")
        else:
            boxes[image].append(_box(entry, names[category]))
    pictures = []
    for number, entry in images.items():
        path = _image_of(file, str(entry["file_name"]).replace("\\", "/"), tree)
        if path is None:
            text = f"several images match {entry['file_name']} equally well"
            problems.add("ambiguous image", file.name, text, "image skipped")
        else:
            size = _whole(entry.get("width")), _whole(entry.get("height"))
            pictures.append(Picture(path, tuple(boxes[number]), *size))
    return pictures


def _image_of(file: Path, name: str, tree: Tree) -> Path | None:
    """The image's path: in a usual folder, else anywhere; the expected path if it is missing, None if ambiguous."""
    candidates = [folder / name for folder in _image_folders(file)]
    for candidate in candidates:
        if os.path.isfile(candidate):
            return candidate
    found = tree.image((name,), file, tree.split_of(file, by_name=True))
    return found if found is None or os.path.isfile(found) else candidates[0]


def as_coco(pictures: Pictures, relative_to: Path | None = None) -> dict[str, Any]:
    """A split in COCO's format, image ids from 1 in the split's order, category ids from 1 in the classes' order.

    Ignored boxes become ``iscrowd``, the only kind that COCO's measure counts neither way.
    """
    categories = [{"id": i, "name": name} for i, name in enumerate(pictures.classes, start=1)]
    number = {entry["name"]: entry["id"] for entry in categories}
    images, annotations = [], []
    for i, picture in enumerate(pictures.pictures, start=1):
        name = picture.path.name if relative_to is None else os.path.relpath(picture.path, relative_to)
        images.append({"id": i, "file_name": name, "width": picture.width, "height": picture.height})
        for box in picture.boxes:
            width, height = box.x1 - box.x0, box.y1 - box.y0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": number[box.name],
                    "bbox": [box.x0, box.y0, width, height],
                    "area": width * height,
                    "iscrowd": int(box.ignored),
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}
