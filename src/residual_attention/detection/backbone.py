"""A feature pyramid over the network's stages (Lin et al., 2017), for torchvision's detectors."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..family import ResidualAttentionNetwork
from ..family.units import BNReLU

LEVELS = 5  # maps in the pyramid, each half as large as the one before


def finest_of_each_stride(strides: Sequence[int], finest: int) -> list[int]:
    """Indices of the deepest feature map of each stride that is at least ``finest``.

    A network that reduces less gives its last map alone.
    """
    last = {stride: i for i, stride in enumerate(strides)}
    return [i for stride, i in sorted(last.items()) if stride >= finest] or [len(strides) - 1]


class CoarserLevels(ExtraFPNBlock):
    """``count`` more levels, each a 3x3 convolution of stride 2 over the one before."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(count))

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        for i, conv in enumerate(self.convs):
            results.append(conv(torch.relu(results[-1]) if i else results[-1]))
            names.append(f"coarser{i}")
        return results, names


class PyramidBackbone(nn.Module):
    """Images (B, 3, H, W), H and W multiples of 32, to an ordered mapping of `LEVELS` float32 maps (B, channels, h, w).

    ``body`` gives maps by ``forward_intermediates``. What a pre-activation network's stages leave is a raw sum, so
    that each map but the last, which the network ends itself, passes a BN-ReLU first. ``frozen`` holds all batch
    normalisation of the body in eval mode with its weights fixed. The output is float32 also under autocast: anchors
    and boxes take their type from it, and bf16 places a corner at 300 px no better than 2 px.
    """

    def __init__(self, body: nn.Module, channels: int, *, finest_stride: int, frozen: bool = False) -> None:
        super().__init__()
        self.body = body
        info = _maps_of(body)
        self.indices = finest_of_each_stride([stride for _, stride in info], finest_stride)
        widths = [info[i][0] for i in self.indices]
        self.strides = [info[i][1] for i in self.indices]
        while len(self.strides) < LEVELS:
            self.strides.append(2 * self.strides[-1])
        ours = isinstance(body, ResidualAttentionNetwork)  # whose last map has a norm of its own
        self.norms = nn.ModuleList(BNReLU(width) if ours else nn.Identity() for width in widths[:-1])
        self.norms.append(nn.Identity())
        self.fpn = FeaturePyramidNetwork(
            widths,
            channels,
            CoarserLevels(channels, LEVELS - len(widths)),
            norm_layer=nn.BatchNorm2d,
        )
        self.out_channels = channels
        self.frozen = frozen
        if frozen:
            for norm in self._norms():
                norm.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.body.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "PyramidBackbone":
        super().train(mode)
        if self.frozen:
            for norm in self._norms():
                norm.eval()
        return self

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        maps = self.body.forward_intermediates(images, self.indices, norm=True, intermediates_only=True)  # type: ignore[operator]
        levels = OrderedDict((str(i), norm(x)) for i, (norm, x) in enumerate(zip(self.norms, maps, strict=True)))
        return OrderedDict((name, level.float()) for name, level in self.fpn(levels).items())


class TorchvisionResNet50(nn.Module):
    """torchvision's ResNet-50 without weights, as a body: the usual detector's backbone, to compare with."""

    def __init__(self) -> None:
        super().__init__()
        network = torchvision.models.resnet50(weights=None)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.feature_info = [{"num_chs": 256 * 2**i, "reduction": 4 * 2**i} for i in range(4)]

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int], norm: bool = True, intermediates_only: bool = True
    ) -> list[Tensor]:
        maps = []
        x = self.stem(x)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in indices:
                maps.append(x)
        return maps


def _maps_of(body: nn.Module) -> list[tuple[int, int]]:
    """(channels, stride) of every map of ``forward_intermediates``."""
    return [(info["num_chs"], info["reduction"]) for info in body.feature_info]  # type: ignore[union-attr]
