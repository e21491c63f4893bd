"""Scans a folder of class folders: its splits, its classes by name, and what was ignored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .placement import Placed

EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".avif",
        ".heic",
        ".heif",
        ".hif",
        ".ico",
        ".tga",
    ]
)
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})
MAX_NAMED = 5

LAYOUT = "expected FOLDER/<class>/<image>, or FOLDER/{train,val,test}/<class>/<image>"


Label = int | tuple[int, ...]
"""The index of an image's class, or those of all of its labels."""


@dataclass(frozen=True)
class FolderListing:
    """``splits`` maps train, val, test (``all`` if the folder has none) to pairs of path and class index, or class
    indices in data of ``several`` labels an image.

    ``groups``: images that must stay on one side, by path. ``ours``: splits that were held out here by content, and
    ``placed``: the split of each image, then.
    """

    classes: list[str]
    splits: dict[str, list[tuple[Path, Label]]]
    notices: list[str] = field(default_factory=list)
    groups: Mapping[Path, str] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    placed: Placed | None = None
    several: bool = False


def _is_junk(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in JUNK


def images_below(folder: Path, ignored: list[Path] | None = None) -> Iterator[Path]:
    """Image files in a folder and its subfolders, sorted by name; other entries are appended to ``ignored``."""
    ignored = [] if ignored is None else ignored
    for path in sorted(folder.iterdir()):
        if _is_junk(path):
            ignored.append(path)
        elif path.is_dir():
            yield from images_below(path, ignored)
        elif path.suffix.lower() in EXTENSIONS:
            yield path
        else:
            ignored.append(path)


def _class_folders(root: Path, ignored: list[Path]) -> dict[str, list[Path]]:
    """Images of each class folder directly below ``root``; empty classes are kept so they can be reported."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.iterdir()):
        if _is_junk(path) or not path.is_dir():
            ignored.append(path)
        else:
            found[path.name] = list(images_below(path, ignored))
    return found


def _has_subfolders(folder: Path) -> bool:
    return any(path.is_dir() and not _is_junk(path) for path in folder.iterdir())


def split_folders(root: Path, notices: list[str] | None = None) -> dict[str, Path]:
    """Split folders that hold class folders, by split. Raises UserError if two folders name the same split.

    A folder named like a split that holds images directly is a class (of trains, say), or is left out if there are
    split folders.
    """
    found: dict[str, Path] = {}
    flat: list[str] = []
    for path in sorted(root.iterdir()):
        split = SPLIT_NAMES.get(path.name.lower())
        if split and path.is_dir():
            if not _has_subfolders(path):
                flat.append(path.name)
                continue
            if split in found:
                raise UserError(
                    f"{root}: both {found[split].name} and {path.name} look like the {split} split; keep one"
                )
            found[split] = path
    for name in flat:
        what = "left out" if found else "used as a class of that name"
        if notices is not None:
            notices.append(f"the folder {name} has images but no class folders: {what}")
    return found


def ignored_notice(root: Path, ignored: list[Path]) -> list[str]:
    """Counts and names what is not an image, in one line; nothing if all is."""
    if not ignored:
        return []
    names = [str(path.relative_to(root)) for path in ignored[:MAX_NAMED]]
    more = f" and {len(ignored) - MAX_NAMED} more" if len(ignored) > MAX_NAMED else ""
    return [f"ignored {len(ignored)} entries that are not images: {', '.join(names)}{more}"]


def _labelled(
    split: str, found: dict[str, list[Path]], classes: list[str], notices: list[str]
) -> list[tuple[Path, Label]]:
    """A split's images, labelled by class *name*; classes that do not match are reported in ``notices``."""
    index = {name: i for i, name in enumerate(classes)}
    missing = [name for name in classes if not found.get(name)]
    if missing:
        notices.append(f"the {split} split has no images for {len(missing)} classes: {', '.join(missing[:MAX_NAMED])}")
    unknown = {name: len(paths) for name, paths in found.items() if name not in index and paths}
    if unknown:
        listing = ", ".join(f"{name} ({count} images)" for name, count in unknown.items())
        notices.append(f"the {split} split has classes that are not in training, left out: {listing}")
    return [(path, index[name]) for name, paths in found.items() if name in index for path in paths]


def scan_folder(root: Path, *, single_class_allowed: bool = False, classes_of: str = "train") -> FolderListing:
    """List a folder of class folders, with or without split folders above them.

    Classes are those of the split ``classes_of`` (of the entire folder if it has no splits), sorted by name.

    Raises:
        UserError: not a folder, no images, or a single class; the message states the expected layout.
    """
    if not root.is_dir():
        raise UserError(f"no folder at {root}; {LAYOUT}")
    ignored: list[Path] = []
    notices: list[str] = []
    folders = split_folders(root, notices)
    if folders and classes_of not in folders:
        names = ", ".join(path.name for path in folders.values())
        raise UserError(f"{root} has {names} but no {classes_of} folder; {LAYOUT}")
    if folders:
        ignored.extend(p for p in sorted(root.iterdir()) if p not in folders.values())
        found = {split: _class_folders(path, ignored) for split, path in folders.items()}
    else:
        found = {"all": _class_folders(root, ignored)}
    main = found[classes_of] if classes_of in found else found["all"]
    empty = [name for name, paths in main.items() if not paths]
    if empty:
        notices.append(f"class folders without images, left out: {', '.join(empty)}")
    classes = sorted(name for name, paths in main.items() if paths)
    if not classes:
        raise UserError(f"{root} has no images in class folders; {LAYOUT}")
    if len(classes) == 1 and not single_class_allowed:
        raise UserError(f"{root} has only one class ({classes[0]}); a classifier needs at least two; {LAYOUT}")
    splits = {split: _labelled(split, of_class, classes, notices) for split, of_class in found.items()}
    notices += ignored_notice(root, ignored)
    return FolderListing(classes, splits, notices)
