"""Mean absolute response of each stage's output: how features fade with naive learning (paper, section 4.1)."""

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints import Classifier
from ..errors import UserError
from ..family.modes import evaluating
from ..family.staged import StagedNetwork
from .batches import Say, silent, split_batches


@torch.no_grad()
def stage_responses(model: nn.Module, batches: Iterable[Tensor]) -> OrderedDict[str, float]:
    """Mean of |output| over images, channels and positions, for each stage and for the final units.

    Args:
        model: run in eval mode; its mode is restored.
        batches: preprocessed images (B, C, H, W).
    """
    assert isinstance(model, StagedNetwork)
    names = [f"stage {i + 1}" for i in range(len(model.stages))] + ["final"] * model.final_is_level
    totals, count = dict.fromkeys(names, 0.0), 0
    with evaluating(model):
        for images in batches:
            _, maps = model.forward_intermediates(images)
            for name, features in zip(names, maps[-len(names) :], strict=True):
                totals[name] += features.abs().mean().item() * len(images)
            count += len(images)
    if count == 0:
        raise UserError("no images to measure responses on")
    return OrderedDict((name, total / count) for name, total in totals.items())


def responses_on_split(
    model: Classifier,
    data: str,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    limit: int = 500,
    say: Say = silent,
) -> OrderedDict[str, float]:
    """`stage_responses` on the images of `split_batches`."""
    batches = split_batches(model, data, data_dir=data_dir, split=split, limit=limit, say=say)
    return stage_responses(model, (batch.images for batch in batches))
