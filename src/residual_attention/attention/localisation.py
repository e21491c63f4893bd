"""Do maps highlight the object? Pointing game and energy in the box, for images with boxes."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
