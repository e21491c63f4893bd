"""Whether masks say anything: how saturated, how even, how varied over positions they are, by module."""

import math
from collections.abc import Mapping

from torch import Tensor

SATURATED = 0.05  # a value this near to the end of its range hardly learns


def _saturated(mask: Tensor, signed: bool) -> Tensor:
    high = mask > 1 - SATURATED
    return high | (mask < SATURATED - 1) if signed else high | (mask < SATURATED)


def _entropy(maps: Tensor) -> Tensor:
    """(B, h, w) non-negative to (B,): Shannon entropy over positions, 1 for an even map, 0 for a single point."""
    flat = maps.flatten(1).clamp(min=0)
    share = flat / flat.sum(dim=1, keepdim=True).clamp(min=1e-12)
    positions = max(flat.shape[1], 2)
    return -(share * share.clamp(min=1e-12).log()).sum(dim=1) / math.log(positions)


def mask_statistics(masks: Mapping[str, Tensor], *, signed: bool = False) -> dict[str, dict[str, float]]:
    """By module, over masks (B, C, h, w).

    ``mean``; ``saturated_share``, values within 0.05 of an end of the range; ``entropy``, of the channel mean over
    positions, 1 where it is even; ``std_over_positions`` and ``std_over_channels``: how much a channel varies over
    an image, and channels at a position. ``signed`` masks lie in [-1, 1], others in (0, 1).
    """
    found = {}
    for name, mask in masks.items():
        mask = mask.float()
        found[name] = {
            "mean": mask.mean().item(),
            "saturated_share": _saturated(mask, signed).float().mean().item(),
            "entropy": _entropy(mask.mean(dim=1)).mean().item(),
            "std_over_positions": mask.flatten(2).std(dim=2, correction=0).mean().item(),
            "std_over_channels": mask.std(dim=1, correction=0).mean().item(),
        }
    return found
