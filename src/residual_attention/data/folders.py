"""Scans a folder of class folders: its splits, its classes by name, and what was ignored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..names import check_class_names, counted, printable
from .placement import Placed
from .walk import Visited, is_regular

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
    indices in data of ``several`` labels per image.

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


@dataclass
class Ignored:
    """What a scan left out: entries that are not images, and links to folders that it was in already."""

    entries: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    visited: Visited = field(default_factory=Visited)

    def notices(self, root: Path) -> list[str]:
        return [
            f"ignored {counted(len(paths), one, many)}: {_named(root, paths)}"
            for paths, one, many in (
                (self.entries, "entry that is not an image", "entries that are not images"),
                (self.links, "link to a folder that is read already", "links to folders that are read already"),
            )
            if paths
        ]


def images_below(folder: Path, ignored: Ignored | None = None) -> Iterator[Path]:
    """Image files in a folder and its subfolders, sorted by name; other entries are added to ``ignored``.

    Links are followed, but no folder is read twice. Pipes, sockets and devices are not images, whatever their name.
    """
    ignored = Ignored() if ignored is None else ignored
    if not ignored.visited.enter(folder):
        ignored.links.append(folder)
        return
    for path in sorted(folder.iterdir()):
        if _is_junk(path):
            ignored.entries.append(path)
        elif path.is_dir():
            yield from images_below(path, ignored)
        elif path.suffix.lower() in EXTENSIONS and is_regular(path):
            yield path
        else:
            ignored.entries.append(path)


def _class_folders(root: Path, ignored: Ignored) -> dict[str, list[Path]]:
    """Images of each class folder directly below ``root``; empty classes are kept so they can be reported."""
    found: dict[str, list[Path]] = {}
    ignored.visited.enter(root)
    for path in sorted(root.iterdir()):
        if _is_junk(path) or not path.is_dir():
            ignored.entries.append(path)
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


def _named(root: Path, paths: list[Path]) -> str:
    """The first few paths, relative to ``root``, and how many more there are."""
    names = [printable(path.relative_to(root)) for path in paths[:MAX_NAMED]]
    return ", ".join(names) + (f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else "")


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


def _hint(root: Path, only: Path | None) -> str:
    """What DATA was probably meant: the folder above if ``root`` is one class, or its ``only`` folder."""
    if only is None:
        own = sum(path.suffix.lower() in EXTENSIONS for path in root.iterdir())
        return f", but {own} of its own; if these are one class, give the folder above, {root.parent}" if own else ""
    return f" (did you mean {only}?)" if only.is_dir() and _has_subfolders(only) else ""


def scan_folder(root: Path, *, single_class_allowed: bool = False, classes_of: str = "train") -> FolderListing:
    """List a folder of class folders, with or without split folders above them.

    Classes are those of the split ``classes_of`` (of the entire folder if it has no splits), sorted by name.

    Raises:
        UserError: not a folder, no images, a single class, or a class name that cannot be stored or shown.
    """
    if not root.is_dir():
        raise UserError(f"no folder at {root}; {LAYOUT}")
    ignored = Ignored()
    ignored.visited.enter(root)
    notices: list[str] = []
    folders = split_folders(root, notices)
    if folders and classes_of not in folders:
        names = ", ".join(path.name for path in folders.values())
        raise UserError(f"{root} has {names} but no {classes_of} folder; {LAYOUT}")
    if folders:
        ignored.entries.extend(p for p in sorted(root.iterdir()) if p not in folders.values())
        found = {split: _class_folders(path, ignored) for split, path in folders.items()}
    else:
        found = {"all": _class_folders(root, ignored)}
    main = found[classes_of] if classes_of in found else found["all"]
    empty = [name for name, paths in main.items() if not paths]
    if empty:
        notices.append(f"class folders without images, left out: {', '.join(empty)}")
    classes = sorted(name for name, paths in main.items() if paths)
    if not classes:
        raise UserError(f"{root} has no images in class folders{_hint(root, None)}; {LAYOUT}")
    if len(classes) == 1 and not single_class_allowed:
        hint = _hint(root, root / classes[0])
        raise UserError(f"{root} has only one class ({classes[0]}); a classifier needs at least two{hint}; {LAYOUT}")
    check_class_names(classes, root)
    splits = {split: _labelled(split, of_class, classes, notices) for split, of_class in found.items()}
    notices += ignored.notices(root)
    return FolderListing(classes, splits, notices)
