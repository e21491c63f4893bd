"""Deletion and insertion: does a map rank pixels as the network uses them? (Petsiuk et al., RISE, BMVC 2018)

Deletion replaces pixels by the mean colour, the hottest first; insertion starts from a blurred image and restores
pixels, the hottest first. The class's probability against the share of pixels changed is a curve from 0 to 1, whose
area is the measure: low is good for deletion, high for insertion.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

STEPS = 20
BATCH = 256


def blurred(images: Tensor) -> Tensor:
    """Start of insertion: (B, C, S, S) with a Gaussian blur of a tenth of the side (sigma)."""
    sigma = images.shape[-1] / 10
    kernel = 2 * round(1.5 * sigma) + 1
    return gaussian_blur(images, [kernel, kernel], [sigma, sigma])


def ranks(heat: Tensor) -> Tensor:
    """(B, H, W) to the rank of each pixel, 0 the hottest; ties go by position."""
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=heat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(heat)


@torch.no_grad()
def replacement_auc(
    probabilities: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, heat: Tensor, *, insertion: bool
) -> Tensor:
    """Area under the curve of the target's probability, (B,) in [0, 1], by trapezoids over `STEPS` equal steps.

    Args:
        probabilities: (N, C, S, S) normalised images to (N, K).
        images: (B, C, S, S) normalised, so that the mean colour is 0.
        targets: (B,) class indices.
        heat: (B, S, S).
    """
    place = ranks(heat)[:, None]
    pixels = place.shape[-1] * place.shape[-2]
    start, end = (blurred(images), images) if insertion else (images, torch.zeros_like(images))
    curve = []
    for step in range(STEPS + 1):
        changed = place < round(step * pixels / STEPS)
        mixed = torch.where(changed, end, start)
        parts = [probabilities(part) for part in mixed.split(BATCH)]
        curve.append(torch.cat(parts).gather(1, targets[:, None])[:, 0])
    return torch.trapezoid(torch.stack(curve, dim=1), dx=1 / STEPS, dim=1)
