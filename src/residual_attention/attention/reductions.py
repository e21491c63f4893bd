"""Functions of M and R = M * dy/dM (or None), each (B, C, h, w), to one map (B, h, w)."""

import torch
from torch import Tensor


def mean_over_channels(mask: Tensor, contribution: Tensor | None) -> Tensor:
    return mask.mean(dim=1)


def most_excited_channel(mask: Tensor, contribution: Tensor | None) -> Tensor:
    """For each image, the channel that contributes most to the class logit."""
    assert contribution is not None
    return channel_of(mask, excited_channels(contribution))


def share_of_class(mask: Tensor, contribution: Tensor | None) -> Tensor:
    """The positive part of R summed over channels."""
    assert contribution is not None
    return contribution.sum(dim=1).clamp(min=0)


def excited_channels(contribution: Tensor) -> Tensor:
    """(B, C, h, w) to (B,): the channel that contributes most to the class logit."""
    return contribution.sum(dim=(2, 3)).argmax(dim=1)


def channel_of(mask: Tensor, channels: Tensor) -> Tensor:
    """One channel per image: (B, C, h, w) and (B,) to (B, h, w)."""
    return mask[torch.arange(len(mask), device=mask.device), channels.to(mask.device)]
