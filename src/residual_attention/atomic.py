"""Writing a file as a whole or not at all."""

import contextlib
import os
from pathlib import Path


def _flush_folder(folder: Path) -> None:
    """Make a rename durable; not every file system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, or leave it as it was. Raises OSError (the temporary file is removed)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a save that a kill cut off."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
