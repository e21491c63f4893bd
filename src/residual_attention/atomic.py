"""Write a file completely or not at all."""

import contextlib
import os
import re
from pathlib import Path


def _flush_folder(folder: Path) -> None:
    """Make a rename durable. Some file systems cannot open a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``, or leave it unchanged. Raises OSError, about ``path``, and removes the temporary
    file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where it could not even be made
            temporary.unlink()
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        raise
    _flush_folder(path.parent)


def remove_leftovers(*paths: Path) -> None:
    """Delete the temporary files that a killed `write_atomically` of these paths left, and no others."""
    for path in paths:
        ours = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
        if path.parent.is_dir():
            for other in path.parent.iterdir():
                if ours.fullmatch(other.name):
                    other.unlink(missing_ok=True)
