"""Ten-crop evaluation: four corners, the centre, and their mirror images (Krizhevsky et al., 2012)."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transform

from ..checkpoints.confidence import confidence_of


class TenCrop(nn.Module):
    """Averages a classifier's class probabilities, not calibrated, over ten crops of ``size`` px.

    Shapes: (B, C, S, S) with S at least ``size`` to (B, K), the logits of the mean.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.plain = replace(confidence_of(network), temperature=1.0)

    def forward(self, images: Tensor) -> Tensor:
        crops = transform.ten_crop(images, [self.size, self.size])
        shares = torch.stack([self.plain.probabilities(self.network(crop)) for crop in crops])  # (10, B, K)
        return self.plain.as_logits(shares.mean(dim=0))
