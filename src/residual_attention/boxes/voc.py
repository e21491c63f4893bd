"""PASCAL VOC's XML: in VOC's layout (``Annotations``, ``JPEGImages``, ``ImageSets/Main/<split>.txt``) or any other.

Corners in VOC files count pixels from 1, and both lie inside the box (Everingham et al., development kit, section 4.4);
here a box starts at ``xmin - 1`` and ends at ``xmax``.
"""

import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from .annotations import Box, Picture, Problems, number_in
from .tree import Tree

ROOT_TAG = "annotation"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_voc(root: Path) -> Path | None:
    """The folder that holds ``Annotations``: ``root``, or one of VOCdevkit's years below it (the latest).

    Or else the only folder up to two levels below that has ``Annotations`` and lists of splits: an archive often
    unpacks to a folder around them, and without the lists its test images would be divided anew.
    """
    for folder in (
        root,
        *sorted(root.glob("VOC20*"), reverse=True),
        *sorted(root.glob("VOCdevkit/VOC20*"), reverse=True),
    ):
        if any((folder / "Annotations").glob("*.xml")):
            return folder
    lists = [*root.glob("*/ImageSets/Main/*.txt"), *root.glob("*/*/ImageSets/Main/*.txt")]
    listed = {path.parents[2] for path in lists if any((path.parents[2] / "Annotations").glob("*.xml"))}
    return listed.pop() if len(listed) == 1 else None


def voc_splits(root: Path) -> dict[str, list[str]]:
    """Names of the images of each list in ``ImageSets/Main``; one list ``all`` if there are no lists."""
    lists = root / "ImageSets" / "Main"
    found = {}
    for split in ("train", "val", "trainval", "test"):
        path = lists / f"{split}.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            found[split] = [_stem(line.strip()) for line in lines if line.strip()]
    return found or {"all": sorted(path.stem for path in (root / "Annotations").glob("*.xml"))}


def _stem(line: str) -> str:
    """An image's name, which may contain spaces, without the 1, 0 or -1 of a class list and without a suffix."""
    name, _, last = line.rpartition(" ")
    word = name.strip() if last in ("-1", "0", "1") and name.strip() else line
    stem, dot, suffix = word.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else word


def _number(node: ElementTree.Element, tag: str) -> float:
    return number_in((node.findtext(tag) or "").strip())


def _box(node: ElementTree.Element, file: str, problems: Problems) -> Box | None:
    name, corners = (node.findtext("name") or "").strip(), node.find("bndbox")
    if not name or corners is None:
        missing = "name" if not name else "bndbox"
        problems.add("object without a name or box", file, f"an object has no {missing}", "skipped")
        return None
    x0, y0, x1, y1 = (_number(corners, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if x0 == x1 or y0 == y1:  # one pixel wide by VOC's counting; other tools write this for an empty box
        return Box(name, x0, y0, x1, y1)
    ignored = (node.findtext("difficult") or "0").strip() == "1"
    return Box(name, x0 - 1, y0 - 1, x1, y1, ignored)


def _image_of(tree: Tree, stem: str, filename: str, near: Path) -> Path | None:
    """The image of an annotation: by its name in the list, with any suffix, else by the annotation's ``filename``; in
    ``JPEGImages``, else anywhere.
    """
    images = tree.root / "JPEGImages"
    for suffix in SUFFIXES:
        for candidate in (images / f"{stem}{suffix}", images / f"{stem}{suffix.upper()}"):
            if os.path.isfile(candidate):
                return candidate
    named = images / Path(filename).name
    if filename and os.path.isfile(named):
        return named
    found = tree.image((stem, filename), near)
    return found if found is None or os.path.isfile(found) else images / f"{stem}.jpg"


def _whole(node: ElementTree.Element, tag: str) -> int:
    value = _number(node, tag)
    return int(value) if isfinite(value) else 0


def root_tag(path: Path) -> str:
    """The root element of an XML file; empty when it is not XML."""
    try:
        return next(iter(ElementTree.iterparse(path, events=("start",))))[1].tag
    except (ElementTree.ParseError, ValueError, LookupError, StopIteration, OSError):
        return ""


def _parsed(path: Path, problems: Problems) -> ElementTree.Element | None:
    """The annotation, or None with a line in ``problems``."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: unknown encodings
        problems.add("broken annotation", path.name, f"not valid XML ({error})", "image skipped")
        return None
    if root.tag.lower() != ROOT_TAG:
        text = f"it starts with <{root.tag}>, not with <{ROOT_TAG}>"
        problems.add("broken annotation", path.name, text, "image skipped")
        return None
    return root


def _picture(node: ElementTree.Element, path: Path, image: Path | None, problems: Problems) -> Picture | None:
    """The annotation's picture, or None with a line in ``problems`` when its image is ambiguous."""
    if image is None:
        problems.add("ambiguous image", path.name, "several images match it equally well", "image skipped")
        return None
    boxes = [_box(entry, path.name, problems) for entry in node.findall("object")]
    size = node.find("size")
    width, height = (0, 0) if size is None else (_whole(size, "width"), _whole(size, "height"))
    return Picture(image, tuple(box for box in boxes if box is not None), width, height)


def _filename(node: ElementTree.Element) -> str:
    return (node.findtext("filename") or "").strip()


def read_voc(root: Path, names: list[str], problems: Problems) -> list[Picture]:
    """The pictures of a list, unchecked; unreadable annotations become lines in ``problems``."""
    pictures, tree = [], Tree(root)
    for name, times in Counter(names).items():
        if times > 1:
            problems.add("image listed twice", name, f"listed {times} times in one split", "used once")
        path = root / "Annotations" / f"{name}.xml"
        if not path.is_file():
            problems.add("missing annotation", path.name, "no such file in Annotations", "image skipped")
        elif (node := _parsed(path, problems)) is not None:
            pictures.append(_picture(node, path, _image_of(tree, name, _filename(node), path), problems))
    return [picture for picture in pictures if picture is not None]


def find_xml(tree: Tree) -> tuple[list[Path], str]:
    """XML files below a folder if any is VOC's, else why they are not VOC's."""
    files = tree.of(".xml")
    if not files or any(root_tag(path).lower() == ROOT_TAG for path in files):
        return files, ""
    tag = root_tag(files[0])
    return [], f"{files[0].name} {f'starts with <{tag}>, not with <{ROOT_TAG}>' if tag else 'is not XML'}"


def read_xml(files: Sequence[Path], tree: Tree, split: str | None, problems: Problems) -> list[Picture]:
    """The pictures of annotation files, wherever they and their images are; otherwise as `read_voc`."""
    pictures: dict[Path, Picture] = {}
    for path in files:
        if (node := _parsed(path, problems)) is None:
            continue
        picture = _picture(node, path, tree.image((path.stem, _filename(node)), path, split), problems)
        if picture is not None and picture.path in pictures:
            what = f"another file annotates {picture.path.name} too"
            problems.add("image annotated twice", path.name, what, "skipped")
        elif picture is not None:
            pictures[picture.path] = picture
    return list(pictures.values())
