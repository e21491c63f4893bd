"""DATA as a list: a CSV with the columns path and label, or a text file with a path and a label in each line.

Optional columns are ``split`` (train, val, test) and ``group`` (images that must stay on one side: a patient, a
scene). Paths are relative to the list's folder. A cell with several labels, separated by ``;`` or ``|``, makes the data
multi-label; an empty cell then means none of them.
"""

import csv
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..hints import did_you_mean
from .folders import MAX_NAMED, SPLIT_NAMES, FolderListing, Label

SUFFIXES = (".csv", ".tsv", ".txt", ".lst")
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "filepath", "filepaths"),
    "label": ("label", "labels", "class", "classes", "target", "category"),
    "split": ("split", "set", "subset", "data set", "dataset"),
    "group": ("group", "groups", "patient", "scene"),
}
SEPARATORS = re.compile(r"[;|]")
EXPECTED = "expected the columns path and label, and optionally split and group, or a path and a label in each line"


@dataclass(frozen=True)
class Row:
    path: Path
    labels: tuple[str, ...]
    split: str
    group: str


def is_list(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if "\0" in text:
        raise UserError(
            f"{path} is not text: it has a NUL character in line {text[: text.index(chr(0))].count(chr(10)) + 1}"
        )
    return text


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _columns(header: list[str]) -> dict[str, int]:
    """The position of each known column. The names are matched without regard to case."""
    names = [name.strip().lower() for name in header]
    return {
        column: next(i for i, name in enumerate(names) if name in known)
        for column, known in COLUMNS.items()
        if any(name in known for name in names)
    }


def _csv_rows(path: Path, lines: list[str]) -> list[Row]:
    delimiter = _delimiter(lines[0])
    rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
    columns = _columns(rows[0])
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        close = did_you_mean(missing[0], rows[0])
        raise UserError(f"{path} has no column {missing[0]} (its columns: {', '.join(rows[0])}){close}; {EXPECTED}")
    found = []
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) <= max(columns.values()):
            raise UserError(f"{path}, line {number}: {len(cells)} cells, but {len(rows[0])} columns")
        cell = {name: cells[i].strip() for name, i in columns.items()}
        labels = _labels(SEPARATORS.split(cell["label"]))
        split = _split(cell.get("split", ""), path, number)
        found.append(Row(path.parent / cell["path"], labels, split, cell.get("group", "")))
    return found


def _labels(parts: Iterable[str]) -> tuple[str, ...]:
    """Each label once, in the order given."""
    return tuple(dict.fromkeys(label for part in parts if (label := part.strip())))


def _split(cell: str, path: Path, number: int) -> str:
    if not cell:
        return ""
    if cell.lower() not in SPLIT_NAMES:
        raise UserError(f"{path}, line {number}: the split {cell!r} is none of train, val, test")
    return SPLIT_NAMES[cell.lower()]


def _plain_rows(path: Path, lines: list[str]) -> list[Row]:
    """``PATH LABEL``, separated by a tab or the last white space; a path alone has its folder as label."""
    found = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        parts = name.split("\t") if "\t" in name else name.rsplit(None, 1)
        if len(parts) == 2 and not os.path.isfile(path.parent / name):
            file, labels = path.parent / parts[0].strip(), SEPARATORS.split(parts[1])
        elif "/" in name or "\\" in name:
            file, labels = path.parent / name, [Path(name).parent.name]
        else:
            raise UserError(f"{path}, line {number}: no label; {EXPECTED}")
        found.append(Row(file, _labels(labels), "", ""))
    return found


def _read_rows(path: Path) -> list[Row]:
    lines = _text(path).splitlines()
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} is empty; {EXPECTED}")
    is_table = (
        path.suffix.lower() in (".csv", ".tsv")
        or {"path", "label"} <= _columns(next(csv.reader([lines[0]], delimiter=_delimiter(lines[0])))).keys()
    )
    rows = _csv_rows(path, lines) if is_table else _plain_rows(path, lines)
    if not any(os.path.isfile(row.path) for row in rows):
        first = f"; the first is {rows[0].path}" if rows else ""
        raise UserError(f"{path}: none of its {len(rows)} files exists{first}; paths are relative to the list's folder")
    return rows


def _without_repeats(path: Path, rows: list[Row], notices: list[str]) -> list[Row]:
    """Rows of distinct files. Raises UserError for a file with different labels or splits."""
    first: dict[Path, Row] = {}
    for row in rows:
        if first.setdefault(row.path, row) != row:
            raise UserError(f"{path}: {row.path.name} has two rows that differ; several labels go in one cell, as a;b")
    if len(first) < len(rows):
        notices.append(f"{len(rows) - len(first)} repeated rows of {path.name} count once")
    return list(first.values())


def _names(values: Iterable[str]) -> str:
    names = list(values)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def read_list(
    path: Path, *, single_class_allowed: bool = False, classes_of: str = "train", several: bool = False
) -> FolderListing:
    """The images of a list, as `folders.scan_folder` gives those of a folder.

    Classes are those of the split ``classes_of`` (of all rows if there is no split column), sorted by name.
    ``several``: the list is multi-label, even if no cell of it has two labels.

    Raises:
        UserError: not a list, a faulty line, no existing file, or a single class.
    """
    notices: list[str] = []
    rows = _without_repeats(path, _read_rows(path), notices)
    several = several or any(len(row.labels) > 1 for row in rows)
    if not several and (unlabelled := [row.path.name for row in rows if not row.labels]):
        notices.append(f"left out {len(unlabelled)} rows without a label: {_names(unlabelled)}")
        rows = [row for row in rows if row.labels]
    is_split = any(row.split for row in rows)
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault((row.split or "train") if is_split else "all", []).append(row)
    main = by_split.get(classes_of if is_split else "all")
    if not main:
        raise UserError(f"{path} has rows of {', '.join(by_split)} but none of {classes_of}")
    classes = sorted({label for row in main for label in row.labels})
    if len(classes) < 2 and not (single_class_allowed or several):
        raise UserError(f"{path} has only one class ({', '.join(classes)}); a classifier needs at least two")
    if several:
        notices.append(f"several labels in a cell, so the data is multi-label, with {len(classes)} labels")
    index = {name: i for i, name in enumerate(classes)}
    splits = {split: _labelled(split, of, index, several, notices) for split, of in by_split.items()}
    groups = {row.path: row.group for row in rows if row.group}
    return FolderListing(classes, splits, notices, groups, several=several)


def _labelled(
    split: str, rows: list[Row], index: dict[str, int], several: bool, notices: list[str]
) -> list[tuple[Path, Label]]:
    unknown = sorted({label for row in rows for label in row.labels if label not in index})
    if unknown:
        notices.append(f"the {split} split has classes that are not in training, left out: {_names(unknown)}")
    if several:
        return [(row.path, tuple(index[name] for name in row.labels if name in index)) for row in rows]
    return [(row.path, index[row.labels[0]]) for row in rows if row.labels[0] in index]
