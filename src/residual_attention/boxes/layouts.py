"""The layout of a data folder: which files hold its boxes, and how each split is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..errors import UserError
from ..hints import did_you_mean
from .annotations import Picture, Problems
from .coco import find_coco, find_json, read_coco
from .table import NEEDED, find_tables, read_table
from .tree import ORDER, Tree, split_in
from .voc import find_voc, find_xml, read_voc, read_xml, voc_splits
from .yolo import find_yolo, read_yolo

Reader = Callable[[Problems], list[Picture]]
EXPECTED = (
    "expected images with PASCAL VOC's .xml files, COCO's .json, a .csv with the columns "
    f"{', '.join(NEEDED)}, or YOLO's .txt labels with a data.yaml"
)
SUFFIXES = {"voc": ".xml", "coco": ".json", "csv": ".csv", "yolo": ".txt"}


@dataclass(frozen=True)
class Layout:
    """A folder's ``form`` (voc, coco, csv or yolo) and a reader for each of its splits; ``all``: not split."""

    form: str
    readers: dict[str, Reader]
    notices: list[str] = field(default_factory=list)


def find_layout(root: Path) -> Layout:
    """VOC's and COCO's standard layouts first, then the same files in any other layout, then CSV and YOLO.

    Raises UserError when there are no boxes in any of these formats; it lists what was found.
    """
    if root.is_file():
        return _one_file(root)
    if not root.is_dir():
        close = did_you_mean(root.name, (path.name for path in root.parent.iterdir())) if root.parent.is_dir() else ""
        raise UserError(f"no folder at {root}{close}")
    if (voc := find_voc(root)) and any((voc / folder).is_dir() for folder in ("JPEGImages", "ImageSets")):
        below = [] if voc == root else [f"the boxes and splits are those of {voc.relative_to(root)}"]
        return replace(_voc_layout(voc), notices=below)
    if files := find_coco(root):
        return _coco_layout(root, files)
    return _loose_layout(Tree(root))


def _one_file(file: Path) -> Layout:
    if file.suffix.lower() == ".json":
        return Layout("coco", {"all": partial(read_coco, file)})
    if file.suffix.lower() == ".csv":
        return Layout("csv", {"all": partial(read_table, file)})
    folder = f"; give its folder, {file.parent}" if file.suffix.lower() in (".yaml", ".yml", ".xml", ".txt") else ""
    raise UserError(f"{file} is neither a folder nor a .json or .csv file of boxes{folder}")


def _voc_layout(root: Path) -> Layout:
    lists = voc_splits(root)
    if "train" in lists and "val" in lists:
        lists.pop("trainval", None)
    elif "trainval" in lists:
        held = set(lists.get("val", ()))
        lists["train"] = [name for name in lists.pop("trainval") if name not in held]
    if "test" in lists and not any((root / "Annotations" / f"{name}.xml").is_file() for name in lists["test"]):
        lists.pop("test")  # VOC 2012 lists its test images but has no annotations for them
    return Layout("voc", {split: partial(read_voc, root, names) for split, names in lists.items()})


def _coco_layout(root: Path, files: dict[str, Path]) -> Layout:
    others = sorted([*root.glob("*.json"), *root.glob("annotations/*.json")])
    notices = [
        f"{path.relative_to(root)} is not read; rename it to {split}.json if it is the {split} split"
        for path in others
        if (split := split_in(path.stem)) and split not in files
    ]
    if "test" not in files and "val" in files and files["val"].name.startswith("instances_val"):
        files["test"] = files.pop("val")
        notices.append("COCO's val serves as the test split; validation images are held out of training")
    tree = Tree(root)
    return Layout("coco", {split: partial(read_coco, file, tree=tree) for split, file in files.items()}, notices)


def _loose_layout(tree: Tree) -> Layout:
    """Annotations in any format, anywhere in the folder. Raises UserError when there are none, or no images."""
    objections = []
    for find in (_xml, _json, _table, _yolo):
        layout, objection = find(tree)
        if layout is not None:
            if not tree.images:
                raise UserError(
                    f"{tree.root} holds {tree.summary()} but no images; put them beside the annotations or in a "
                    "folder named images"
                )
            notices = [*layout.notices, *_unread(tree, layout.form)]
            return Layout(layout.form, _by_image_folders(layout.readers, tree), notices)
        objections += [objection] if objection else []
    said = "; ".join(objections) or EXPECTED
    raise UserError(f"no boxes found in {tree.root} ({tree.summary()}): {said}")


@dataclass
class _Once:
    """A reader that reads and reports problems only on the first call."""

    reader: Reader
    pictures: list[Picture] | None = None

    def __call__(self, problems: Problems) -> list[Picture]:
        if self.pictures is None:
            self.pictures = self.reader(problems)
        return self.pictures


def _by_image_folders(readers: dict[str, Reader], tree: Tree) -> dict[str, Reader]:
    """Unsplit annotations of split images: each follows its image, or goes to train if the image is in no split."""
    splits = {split for path in tree.images if (split := tree.split_of(path))}
    if "all" not in readers or len(splits) < 2:
        return readers
    read = _Once(readers["all"])

    def of(split: str) -> Reader:
        return lambda problems: [p for p in read(problems) if (tree.split_of(p.path) or "train") == split]

    return {split: of(split) for split in ORDER if split in splits | {"train"}}


def _unread(tree: Tree, form: str) -> list[str]:
    """Other files that look like annotations, so that nobody assumes they were read."""
    others = {suffix: tree.of(suffix) for name, suffix in SUFFIXES.items() if name not in (form, "yolo")}
    told = [f"{len(paths)} {suffix}" for suffix, paths in others.items() if paths]
    return [f"boxes are read from the {SUFFIXES[form]} files; ignored: {', '.join(told)}"] if told else []


Found = tuple[Layout | None, str]  # or the reason why not


def _xml(tree: Tree) -> Found:
    files, objection = find_xml(tree)
    if not files:
        return None, objection
    splits = tree.by_split(files)
    readers = {split: partial(_read_xml, paths, tree, split) for split, paths in splits.items()}
    return Layout("voc", readers, _without_annotation(tree, files)), ""


def _read_xml(files: Sequence[Path], tree: Tree, split: str, problems: Problems) -> list[Picture]:
    return read_xml(files, tree, None if split == "all" else split, problems)


def _without_annotation(tree: Tree, files: Sequence[Path]) -> list[str]:
    known = {path.stem for path in files}
    without = sum(path.stem not in known for path in tree.images)
    return [f"{without} of {len(tree.images)} images have no annotation file and are skipped"] if without else []


def _json(tree: Tree) -> Found:
    return _file_for_each_split(tree, "coco", *find_json(tree), read_coco)


def _table(tree: Tree) -> Found:
    return _file_for_each_split(tree, "csv", *find_tables(tree), read_table)


def _yolo(tree: Tree) -> Found:
    found = find_yolo(tree)
    if found is None:
        return None, ""
    readers = {split: partial(read_yolo, found, images) for split, images in found.splits.items()}
    return Layout("yolo", readers, found.notices), ""


def _file_for_each_split(
    tree: Tree, form: str, files: Sequence[Path], objection: str, read: Callable[..., list[Picture]]
) -> Found:
    """The layout of formats that keep all boxes of a split in one file."""
    if not files:
        return None, objection
    chosen = _one_of_each(tree, files)
    return Layout(form, {split: partial(read, file, tree=tree) for split, file in chosen.items()}), ""


def _one_of_each(tree: Tree, files: Sequence[Path]) -> dict[str, Path]:
    """The annotation file of each split. Raises UserError when a split has several."""
    splits = tree.by_split(files, by_name=True)
    for split, paths in splits.items():
        if len(paths) > 1:
            names = ", ".join(str(path.relative_to(tree.root)) for path in paths[:3])
            what = "in no split" if split == "all" else f"in the {split} split"
            raise UserError(
                f"{tree.root}: {len(paths)} {paths[0].suffix} files are {what} ({names}); keep one, or name the "
                "files or their folders train, val and test"
            )
    return {split: paths[0] for split, paths in splits.items()}
