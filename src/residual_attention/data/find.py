"""Finds image files from command-line arguments: files, folders and globs."""

import glob
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .folders import images_below
from .walk import is_regular, require_regular


def find_images(sources: Iterable[str]) -> list[Path]:
    """Expand files, folders (recursively) and globs to image files. Keeps the order and lists each file once.

    Raises UserError for a source that matches nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matched = list(images_below(path))
            if not matched:
                raise UserError(f"no images in the folder {source}")
        elif path.exists():
            matched = [require_regular(path)]
        else:
            matched = [Path(name) for name in sorted(glob.glob(source, recursive=True)) if is_regular(Path(name))]
            if not matched:
                raise UserError(f"no image at {source}")
        found.update(dict.fromkeys(matched))
    return list(found)
