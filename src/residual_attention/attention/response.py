"""Mean absolute response of each stage's output: how naive learning lets features fade (paper, section 4.1)."""

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..family import ResidualAttentionNetwork
from ..family.modes import evaluating


@torch.no_grad()
def stage_responses(model: nn.Module, batches: Iterable[Tensor]) -> OrderedDict[str, float]:
    """Mean of |output| over images, channels and positions, of each stage and of the final units.

    Args:
        model: in eval mode afterwards as before.
        batches: preprocessed images (B, C, H, W).
    """
    assert isinstance(model, ResidualAttentionNetwork)
    names = [f"stage {i + 1}" for i in range(len(model.stages))] + ["final"]
    totals, count = dict.fromkeys(names, 0.0), 0
    with evaluating(model):
        for images in batches:
            _, maps = model.forward_intermediates(images)
            for name, features in zip(names, maps[1:], strict=True):
                totals[name] += features.abs().mean().item() * len(images)
            count += len(images)
    if count == 0:
        raise UserError("no images to measure responses on")
    return OrderedDict((name, total / count) for name, total in totals.items())
