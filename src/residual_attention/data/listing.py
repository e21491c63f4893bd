"""Lists the images of DATA on disk: a folder of class folders, or a list of files."""

from pathlib import Path

from .folders import FolderListing, scan_folder, split_folders
from .table import is_list, read_list


def is_on_disk(path: Path) -> bool:
    """Whether images can be listed there: a folder, or a list of files."""
    return path.is_dir() or is_list(path)


def list_images(
    path: Path, *, single_class_allowed: bool = False, classes_of: str = "train", several: bool = False
) -> FolderListing:
    """`read_list` or `scan_folder`; an image in a class folder has one label, even where ``several`` are possible."""
    if is_list(path):
        return read_list(path, single_class_allowed=single_class_allowed, classes_of=classes_of, several=several)
    return scan_folder(path, single_class_allowed=single_class_allowed, classes_of=classes_of)


def given_splits(path: Path) -> set[str]:
    """The splits that the data come with; none if they are all in one."""
    if is_list(path):
        return set(read_list(path, single_class_allowed=True, classes_of="train").splits) - {"all"}
    return set(split_folders(path))
