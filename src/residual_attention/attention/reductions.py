"""From a mask of many channels to one map: M and R = M * dy/dM (B, C, h, w), or None, to (B, h, w)."""

import torch
from torch import Tensor


def mean_over_channels(mask: Tensor, contribution: Tensor | None) -> Tensor:
    return mask.mean(dim=1)


def most_excited_channel(mask: Tensor, contribution: Tensor | None) -> Tensor:
    """The channel of each image that makes most of the class's logit."""
    assert contribution is not None
    return channel_of(mask, excited_channels(contribution))


def share_of_class(mask: Tensor, contribution: Tensor | None) -> Tensor:
    """The positive part of R summed over channels."""
    assert contribution is not None
    return contribution.sum(dim=1).clamp(min=0)


def excited_channels(contribution: Tensor) -> Tensor:
    """(B, C, h, w) to (B,): the channel that makes most of the class's logit."""
    return contribution.sum(dim=(2, 3)).argmax(dim=1)


def channel_of(mask: Tensor, channels: Tensor) -> Tensor:
    """One channel an image: (B, C, h, w) and (B,) to (B, h, w)."""
    return mask[torch.arange(len(mask), device=mask.device), channels.to(mask.device)]
