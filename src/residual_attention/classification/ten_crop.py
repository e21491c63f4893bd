"""Ten-crop evaluation: four corners, the centre, and their mirror images (Krizhevsky et al., 2012)."""

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transform


class TenCrop(nn.Module):
    """Averages a classifier's class probabilities over ten crops of ``size`` px.

    Shapes: (B, C, S, S) with S at least ``size`` to (B, K), the log of the mean, to be used as logits.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        crops = transform.ten_crop(images, [self.size, self.size])
        shares = torch.stack([self.network(crop).float().softmax(dim=1) for crop in crops])  # (10, B, K)
        return shares.mean(dim=0).clamp(min=torch.finfo(torch.float32).tiny).log()
