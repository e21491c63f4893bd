"""Mask statistics by module: saturation, entropy, and variation over positions and channels."""

import math
from collections.abc import Mapping

from torch import Tensor

SATURATED = 0.05  # values this close to 0 or 1 have almost no gradient


def _entropy(maps: Tensor) -> Tensor:
    """(B, h, w) non-negative to (B,): Shannon entropy over positions, 1 for a uniform map, 0 for a single point."""
    flat = maps.flatten(1).clamp(min=0)
    share = flat / flat.sum(dim=1, keepdim=True).clamp(min=1e-12)
    positions = max(flat.shape[1], 2)
    return -(share * share.clamp(min=1e-12).log()).sum(dim=1) / math.log(positions)


def mask_statistics(masks: Mapping[str, Tensor], *, signed: bool = False) -> dict[str, dict[str, float]]:
    """Statistics of masks (B, C, h, w), by module.

    ``mean``; ``saturated_share``: share of values within 0.05 of 0 or 1; ``entropy``: of the mean of |M| over channels,
    1 if uniform over positions; ``std_over_positions``: variation of a channel over positions; ``std_over_channels``:
    variation of a position over channels. ``signed`` masks (channel activation) lie in [-1, 1] and do not saturate.
    """
    found = {}
    for name, mask in masks.items():
        mask = mask.float()
        saturated = (mask < SATURATED) | (mask > 1 - SATURATED)
        found[name] = {
            "mean": mask.mean().item(),
            **({} if signed else {"saturated_share": saturated.float().mean().item()}),
            "entropy": _entropy(mask.abs().mean(dim=1)).mean().item(),
            "std_over_positions": mask.flatten(2).std(dim=2, correction=0).mean().item(),
            "std_over_channels": mask.std(dim=1, correction=0).mean().item(),
        }
    return found
