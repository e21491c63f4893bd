"""Do maps highlight the object? Pointing game and energy in the box, for images with boxes."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data.walk import require_regular
from ..errors import UserError

Box = tuple[float, float, float, float]


def pointing_hits(heat: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Whether the hottest pixel's centre lies in one of the object's boxes (Zhang et al., ECCV 2016).

    Args:
        heat: (B, H, W); the first of several equally hot pixels counts.
        boxes: for each image (n, 4), n >= 1, as (x0, y0, x1, y1) in pixels of the map.

    Returns:
        (B,) of 0 and 1.
    """
    width = heat.shape[2]
    hottest = heat.flatten(1).argmax(dim=1).cpu()
    hits = []
    for place, of_image in zip(hottest.tolist(), boxes, strict=True):
        x, y = place % width + 0.5, place // width + 0.5
        x0, y0, x1, y1 = of_image.unbind(dim=1)
        hits.append(bool(((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)).any()))
    return torch.tensor(hits, dtype=torch.float64)


def coverage(boxes: Tensor, height: int, width: int) -> Tensor:
    """The share of each pixel that a box covers, (height, width); the maximum over boxes (n, 4)."""

    def overlap(low: Tensor, high: Tensor, length: int) -> Tensor:
        edge = torch.arange(length)
        return (torch.minimum(high[:, None], edge + 1.0) - torch.maximum(low[:, None], edge + 0.0)).clamp(0, 1)

    across, down = overlap(boxes[:, 0], boxes[:, 2], width), overlap(boxes[:, 1], boxes[:, 3], height)
    return (down[:, :, None] * across[:, None, :]).amax(dim=0)


def energy_in_box(heat: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Share of the map's positive sum inside the boxes (Wang et al., Score-CAM, 2020): (B,) in [0, 1].

    A map without positive values counts as uniform. Shapes as in `pointing_hits`.
    """
    positive = heat.detach().cpu().clamp(min=0).double()
    positive[positive.sum(dim=(1, 2)) <= 0] = 1.0
    inside = torch.stack([coverage(of_image, *heat.shape[1:]) for of_image in boxes])
    return (positive * inside).sum(dim=(1, 2)) / positive.sum(dim=(1, 2))


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
