"""Which entries of a data folder are read: regular files, and folders that do not lead back to where they come from."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError


def is_regular(path: Path) -> bool:
    """Whether this is a file with an end, or a link to one: no pipe, socket or device."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_regular(path: Path) -> Path:
    """The path. Raises UserError for a pipe, socket or device, whose reading may never end; others pass."""
    if path.exists() and not path.is_dir() and not is_regular(path):
        raise UserError(f"{path} is not a regular file")
    return path


@dataclass
class Visited:
    """The folders of one scan by their real path, so that none is read twice and no link leads in circles."""

    seen: set[Path] = field(default_factory=set)

    def enter(self, folder: Path) -> bool:
        """Whether ``folder`` may be read: it was not read before, and it is no link to a folder above one that was."""
        try:
            real = folder.resolve()
        except (OSError, RuntimeError):  # a link to itself
            return False
        if real in self.seen:
            return False
        if folder.is_symlink() and any(inner.is_relative_to(real) for inner in self.seen):
            return False
        self.seen.add(real)
        return True
