"""Deletion and insertion: does a map rank pixels as the network uses them? (Petsiuk et al., RISE, BMVC 2018)

Deletion replaces pixels, hottest first. Insertion restores them over what replaces them, hottest first. What replaces a
pixel decides much of the result, so there are three `BASELINES`. The measure is the area under the curve of the class
probability against the share of changed pixels: lower is better for deletion, higher for insertion.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from ..data.randomness import torch_generator

STEPS = 20
BASELINES = ("mean", "blur", "noise")
BATCH = 256


def blurred(images: Tensor) -> Tensor:
    """The start of insertion: (B, C, S, S) after a Gaussian blur with sigma = S / 10."""
    sigma = images.shape[-1] / 10
    kernel = 2 * round(1.5 * sigma) + 1
    return gaussian_blur(images, [kernel, kernel], [sigma, sigma])


def replaced(images: Tensor, baseline: str) -> Tensor:
    """Normalised images (B, C, S, S) without content: the mean colour, a blur, or noise of the data's spread."""
    if baseline == "blur":
        return blurred(images)
    if baseline == "noise":
        noise = torch.randn(images.shape[1:], generator=torch_generator("baseline"))
        return noise.to(images.device, images.dtype).expand_as(images)
    return torch.zeros_like(images)


def ranks(heat: Tensor) -> Tensor:
    """(B, H, W) to the rank of each pixel, 0 for the hottest; ties are broken by position."""
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=heat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(heat)


@torch.no_grad()
def replacement_auc(
    probabilities: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    heat: Tensor,
    *,
    insertion: bool,
    baseline: str | None = None,
) -> Tensor:
    """Area under the curve of the target probability, (B,) in [0, 1]: trapezoidal rule, `STEPS` equal steps.

    Args:
        probabilities: (N, C, S, S) normalised images to (N, K).
        images: (B, C, S, S) normalised, so that the mean colour is 0.
        targets: (B,) class indices.
        heat: (B, S, S).
        baseline: one of `BASELINES`; by default *blur* for insertion and *mean* for deletion.
    """
    place = ranks(heat)[:, None]
    pixels = place.shape[-1] * place.shape[-2]
    empty = replaced(images, baseline or ("blur" if insertion else "mean"))
    start, end = (empty, images) if insertion else (images, empty)
    curve = []
    for step in range(STEPS + 1):
        changed = place < round(step * pixels / STEPS)
        mixed = torch.where(changed, end, start)
        parts = [probabilities(part) for part in mixed.split(BATCH)]
        curve.append(torch.cat(parts).gather(1, targets[:, None])[:, 0])
    return torch.trapezoid(torch.stack(curve, dim=1), dx=1 / STEPS, dim=1)
