"""Boxes by image path in a JSON file: ``{"class/name.png": [x0, y0, x1, y1]}``, or a list of boxes for each image."""

import json
from pathlib import Path

from ..data.regions import Box
from ..data.walk import require_regular
from ..errors import UserError


def _parse_boxes(path: Path, name: str, boxes: object) -> list[Box]:
    """One box or a list of them. Raises UserError for an empty or inverted one."""
    listed = boxes if isinstance(boxes, list) and boxes and isinstance(boxes[0], list) else [boxes]
    checked: list[Box] = []
    for box in listed:
        match box:
            case [int() | float() as x0, int() | float() as y0, int() | float() as x1, int() | float() as y1] if (
                x0 < x1 and y0 < y1
            ):
                checked.append((float(x0), float(y0), float(x1), float(y1)))
            case _:
                raise UserError(f"{path}: {name} needs boxes [x0, y0, x1, y1] with x0 < x1 and y0 < y1, not {box}")
    return checked


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read boxes by image path (``class/name.png``) from a JSON file; a single box needs no enclosing list.

    Raises UserError if the file is missing or invalid, or a box is empty or inverted.
    """
    try:
        entries = json.loads(require_regular(path).read_text())
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no boxes file at {path}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON") from None
    if not isinstance(entries, dict):
        raise UserError(f"{path}: expected a JSON object that maps image paths to [x0, y0, x1, y1]")
    return {name: _parse_boxes(path, name, boxes) for name, boxes in entries.items()}
