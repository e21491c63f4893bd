"""Projects the network's maps onto the original image by undoing the preprocessing.

Coordinates are continuous: pixel i covers [i, i + 1]. A map of h x w positions covers the network's square input
evenly, whatever its size, with bilinear interpolation between position centres. Only the preprocessing is undone:
convolutions and poolings also shift what a position *sees* against where it lies, by less than its stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.preprocess import Preprocess


def upsample(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize (B, h, w) or (h, w) to ``height`` x ``width``, bilinear between position centres."""
    stack = maps[None] if maps.dim() == 2 else maps
    large = F.interpolate(stack[:, None].float(), (height, width), mode="bilinear", align_corners=False)[:, 0]
    return large[0] if maps.dim() == 2 else large


def on_original(values: Tensor, preprocess: Preprocess, width: int, height: int) -> Tensor:
    """Project a map (h, w) onto an original of ``width`` x ``height`` px: (height, width), NaN outside the input.

    With *crop*, the input is the centre of the original; with *letterbox* and *squash*, all of it.
    """
    place, size = preprocess.geometry(width, height), preprocess.image_size
    across = ((torch.arange(width) + 0.5 - place.offset_x) / place.scale_x) / size  # 0 to 1 over the square
    down = ((torch.arange(height) + 0.5 - place.offset_y) / place.scale_y) / size
    grid = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1)  # (height, width, 2), x first
    sampled = F.grid_sample(
        values[None, None].float(),
        (2 * grid - 1)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[0, 0]
    seen = ((grid >= 0) & (grid <= 1)).all(dim=-1)
    return sampled.masked_fill(~seen, float("nan"))


def box_on_input(
    box: tuple[float, float, float, float], preprocess: Preprocess, width: int, height: int
) -> tuple[float, float, float, float] | None:
    """Convert a box (x0, y0, x1, y1) from pixels of the original to pixels of the input; None if cropped away."""
    place, size = preprocess.geometry(width, height), preprocess.image_size
    x0, x1 = ((x - place.offset_x) / place.scale_x for x in (box[0], box[2]))
    y0, y1 = ((y - place.offset_y) / place.scale_y for y in (box[1], box[3]))
    inside = max(x0, 0.0), max(y0, 0.0), min(x1, float(size)), min(y1, float(size))
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None
