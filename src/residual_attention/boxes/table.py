"""A CSV of boxes, one per row, as TensorFlow's converters write it.

Its columns are filename, width, height, class, xmin, ymin, xmax, ymax; width and height are optional. Corners are
continuous pixels, as TensorFlow reads them: a box starts at ``xmin`` and ends at ``xmax``. A row with only a file name
is an image without boxes.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .annotations import Box, Picture, Problems, number_in
from .tree import Tree

COLUMNS = {  # under the names that tools use
    "filename": ("filename", "file_name", "file", "image", "image_path", "image_id", "path"),
    "class": ("class", "label", "class_name", "category", "name"),
    "xmin": ("xmin", "x_min", "x1"),
    "ymin": ("ymin", "y_min", "y1"),
    "xmax": ("xmax", "x_max", "x2"),
    "ymax": ("ymax", "y_max", "y2"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
}
NEEDED = ("filename", "class", "xmin", "ymin", "xmax", "ymax")
DELIMITERS = ",;\t"


def _rows(file: Path) -> Iterator[list[str]]:
    """Raises UserError when the file is not text."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            header = lines.readline()
            lines.seek(0)
            yield from csv.reader(lines, delimiter=max(DELIMITERS, key=header.count))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a readable CSV: {error}") from None


def _columns(file: Path) -> dict[str, int]:
    """The position of each of `COLUMNS`. Raises UserError when a required one is missing."""
    header = [name.strip().lower() for name in next(_rows(file), [])]
    found = {
        column: header.index(name)
        for column, names in COLUMNS.items()
        if (name := next((name for name in names if name in header), None))
    }
    missing = [column for column in NEEDED if column not in found]
    if missing:
        raise UserError(
            f"{file} has no column {', '.join(missing)}: its first line is {', '.join(header)[:100] or 'empty'!r}; "
            f"name its columns {', '.join(NEEDED)} (and width, height if it has them)"
        )
    return found


def find_tables(tree: Tree) -> tuple[list[Path], str]:
    """CSV files of boxes below a folder, or why its CSV files are not usable."""
    return tree.usable(".csv", _columns)


def read_table(file: Path, problems: Problems, tree: Tree | None = None) -> list[Picture]:
    """The pictures of a CSV, unchecked, in the order of their first rows; the images may be anywhere in ``tree``.

    Raises UserError when a column is missing or the file is not text.
    """
    columns = _columns(file)
    tree = tree or Tree.around(file)
    split = tree.split_of(file, by_name=True)
    boxes: dict[str, list[Box]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for number, row in enumerate(_rows(file), start=1):
        if number == 1 or not any(cell.strip() for cell in row):
            continue
        cells = {column: row[at].strip() if at < len(row) else "" for column, at in columns.items()}
        name, label = cells["filename"], cells["class"]
        corners = [cells[column] for column in ("xmin", "ymin", "xmax", "ymax")]
        if not name or bool(label) != any(corners):
            text = f"line {number} has no {'file name' if not name else 'class' if not label else 'box'}"
            problems.add("broken row", file.name, text, "skipped")
            continue
        x0, y0, x1, y1 = map(number_in, corners)
        boxes.setdefault(name, []).extend([Box(label, x0, y0, x1, y1)] if label else [])
        width, height = (number_in(cells.get(side, "")) for side in ("width", "height"))
        sizes[name] = (int(width), int(height)) if width > 0 and height > 0 else (0, 0)
    found = {name: tree.image((name,), file, split) for name in boxes}
    for name in (name for name, image in found.items() if image is None):
        problems.add("ambiguous image", file.name, f"several images match {name} equally well", "image skipped")
    return [Picture(image, tuple(boxes[name]), *sizes[name]) for name, image in found.items() if image is not None]
