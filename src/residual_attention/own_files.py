"""Which files in a folder are ours: only these are overwritten or deleted."""

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from .atomic import write_atomically
from .errors import UserError
from .names import printable

LIST = ".ran-files.json"


def data_folder_around(out: Path, data: Iterable[Path | None]) -> Path | None:
    """The one of ``data`` that is a folder around ``out``, where nothing is written; a list has no inside."""
    for folder in data:
        if folder is not None and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            return folder
    return None


def own_folder(out: Path | None, below: str, data: str, data_dir: Path | None, names: Iterable[str]) -> "OwnFiles":
    """``out``, or a folder ``below``/DATA, for a command on DATA that will write ``names``; nothing is written yet.

    Raises UserError for a file, a folder inside one of ``data``, or files of others of our names.
    """
    out = out or Path(below) / re.sub(r"[^\w.-]+", "-", Path(data).resolve().name)
    if out.exists() and not out.is_dir():
        raise UserError(f"{printable(out)} is a file; --out must be a folder")
    if (folder := data_folder_around(out, (Path(data), data_dir))) is not None:
        where = f"{printable(out)} is inside the data folder {printable(folder)}"
        raise UserError(f"{where}, which is never written to; choose an --out")
    own = OwnFiles(out)
    for name in names:
        own.check(name)
    return own


class AsJson(Protocol):
    def to_json(self) -> str: ...


F = TypeVar("F", bound=AsJson)


@dataclass(frozen=True)
class Written(Generic[F]):
    """Findings, and the files of a page and a JSON document about them."""

    findings: F
    page: Path
    document: Path


class OwnFiles:
    """The files in ``folder`` that earlier calls wrote, by name, as a list kept beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()
        with contextlib.suppress(OSError, ValueError, TypeError):
            self.names = {str(name) for name in json.loads((folder / LIST).read_text())}

    def take(self, name: str) -> Path:
        """The path to write ``name`` at, and a note that it is ours.

        Raises UserError if there is such a file already and we did not write it.
        """
        self.check(name)
        self.note(name)
        return self.folder / name

    def check(self, name: str) -> None:
        """Raise as `take` would, and write nothing yet."""
        path = self.folder / name
        if (path.exists() or path.is_symlink()) and name not in self.names:
            raise UserError(f"{printable(path)} exists and was not written by this command; choose another --out")

    def note(self, name: str) -> None:
        """Note that ``name`` is ours."""
        if name not in self.names:
            self.names.add(name)
            self._keep()

    def write_findings(self, findings: F, page: str, html: str, document: str) -> Written[F]:
        """Write the ``html`` as ``page``, and the findings as ``document``; raises UserError as `take` does."""
        written = Written(findings, self.take(page), self.take(document))
        write_atomically(written.page, html.encode())
        write_atomically(written.document, findings.to_json().encode())
        return written

    def remove_all(self) -> None:
        """Delete our files; others in the folder stay."""
        for name in self.names:
            if Path(name).name == name:  # a list that was tampered with leads nowhere else
                (self.folder / name).unlink(missing_ok=True)
        self.names = set()
        self._keep()

    def _keep(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / LIST, json.dumps(sorted(self.names)).encode())
