"""The units that trunk, mask and stages are built from.

Every unit maps (B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride)) and is built by
``unit(in_chs, out_chs, stride=1)``. No convolution has a bias.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UnitFactory = Callable[..., nn.Module]
ONEDNN_BLOCK = 16  # channels, with AVX-512


class StridedPointwise(nn.Conv2d):
    """A strided 1x1 convolution: a subset of the positions, then a dense 1x1 convolution.

    oneDNN (3.13, in torch 2.15) writes past its workspace in the backward pass of a strided one with fewer channels
    than its block in channels_last: wrong gradients, or a crash (uxlfoundation/oneDNN#6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.stride
        return F.conv2d(x[:, :, ::down, ::right], self.weight, self.bias)


def conv(in_chs: int, out_chs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size at stride 1 (odd kernels)."""
    kind = StridedPointwise if kernel == 1 and stride > 1 and in_chs < ONEDNN_BLOCK else nn.Conv2d
    return kind(in_chs, out_chs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


class BNReLU(nn.Sequential):
    """Batch normalisation and ReLU; the ReLU is in place, since BN's backward pass reads only its input."""

    def __init__(self, chs: int) -> None:
        super().__init__(nn.BatchNorm2d(chs), nn.ReLU(inplace=True))


class ConvBNReLU(nn.Sequential):
    def __init__(self, in_chs: int, out_chs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(conv(in_chs, out_chs, kernel, stride, groups), BNReLU(out_chs))


class PreActUnit(nn.Module):
    """Pre-activation bottleneck (He et al., 2016), as in the authors' definition of Attention-56/-92.

    F(x) = conv1x1(C) . BN-ReLU . conv3x3(C/4, stride) . BN-ReLU . conv1x1(C/4) . BN-ReLU (x)

    The shortcut is the raw input where shapes agree; otherwise a strided 1x1 convolution of the
    *pre-activated* input.
    """

    divisor = 4  # the width must be a multiple of this

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        super().__init__()
        width = out_chs // 4
        self.preact = BNReLU(in_chs)
        self.residual = self._residual(in_chs, width, out_chs, stride)
        self.shortcut = conv(in_chs, out_chs, 1, stride) if in_chs != out_chs or stride != 1 else None

    @staticmethod
    def _residual(in_chs: int, width: int, out_chs: int, stride: int) -> nn.Module:
        return nn.Sequential(
            conv(in_chs, width, 1),
            BNReLU(width),
            conv(width, width, 3, stride),
            BNReLU(width),
            conv(width, out_chs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        preact = self.preact(x)
        shortcut = x if self.shortcut is None else self.shortcut(preact)
        return shortcut + self.residual(preact)


class InceptionBranches(nn.Module):
    """1x1, 1x1-3x3 and 1x1-3x3-3x3 in parallel, concatenated and projected back to C.

    The branch widths, 11/64, 8/64 and 6/64 of C, match the parameter count of the bottleneck that
    the unit replaces, within 1 %.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int) -> None:
        super().__init__()
        narrow, middle, wide = 6 * out_chs // 64, 8 * out_chs // 64, 11 * out_chs // 64
        self.point = conv(in_chs, wide, 1, stride)
        self.one_3x3 = nn.Sequential(conv(in_chs, middle, 1), BNReLU(middle), conv(middle, middle, 3, stride))
        self.two_3x3 = nn.Sequential(
            conv(in_chs, narrow, 1),
            BNReLU(narrow),
            conv(narrow, narrow, 3),
            BNReLU(narrow),
            conv(narrow, narrow, 3, stride),
        )
        self.project = nn.Sequential(BNReLU(wide + middle + narrow), conv(wide + middle + narrow, out_chs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([self.point(x), self.one_3x3(x), self.two_3x3(x)], dim=1))


class InceptionUnit(PreActUnit):
    """Pre-activation residual Inception unit, for AttentionInception (paper, section 4.2).

    The authors published no definition; this one is ours, matched to the paper's parameter count.
    """

    divisor = 64

    @staticmethod
    def _residual(in_chs: int, width: int, out_chs: int, stride: int) -> nn.Module:
        return InceptionBranches(in_chs, out_chs, stride)


class ResNeXtUnit(nn.Module):
    """Post-activation aggregated bottleneck (Xie et al., 2017), as in the authors' AttentionNeXt.

    y = ReLU(BN . conv1x1(C) . BN-ReLU . conv3x3(C/2, stride, 32 groups) . BN-ReLU . conv1x1(C/2) (x) + s(x))

    s is the identity, or BN . conv1x1(C, stride) where shapes differ.
    """

    divisor = 64  # 32 groups in C/2 channels

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        super().__init__()
        width = out_chs // 2
        self.residual = nn.Sequential(
            ConvBNReLU(in_chs, width, 1),
            ConvBNReLU(width, width, 3, stride, groups=32),
            conv(width, out_chs, 1),
            nn.BatchNorm2d(out_chs),
        )
        self.shortcut = (
            nn.Sequential(conv(in_chs, out_chs, 1, stride), nn.BatchNorm2d(out_chs))
            if in_chs != out_chs or stride != 1
            else None
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.residual(x) + shortcut)


class VGGUnit(nn.Sequential):
    """A pair of conv3x3-BN-ReLU without shortcut, in the style of VGG; for the trunk only."""

    divisor = 1

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        super().__init__(ConvBNReLU(in_chs, out_chs, 3, stride), ConvBNReLU(out_chs, out_chs, 3))


class DenseLayer(nn.Module):
    """One DenseNet-BC layer: C -> C + growth by concatenation, through a 1x1 bottleneck of 4 x growth."""

    def __init__(self, in_chs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            BNReLU(in_chs), conv(in_chs, 4 * growth, 1), BNReLU(4 * growth), conv(4 * growth, growth, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


class DenseUnit(nn.Sequential):
    """Four dense layers of growth C/16 and a 1x1 convolution back to C (DenseNet's style); trunk only."""

    divisor = 16
    num_layers = 4

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
        growth = out_chs // 16
        layers = [DenseLayer(in_chs + i * growth, growth) for i in range(self.num_layers)]
        grown = in_chs + self.num_layers * growth
        super().__init__(*layers, BNReLU(grown), conv(grown, out_chs, 1, stride))


@dataclass(frozen=True)
class UnitStyle:
    """The units that one choice of ``unit`` uses in each part of the network."""

    unit: UnitFactory  # stages, mask branch, shared units, final units
    trunk: UnitFactory  # T(x)
    preact: bool = True  # BN-ReLU before the mask head and before the final pool

    @property
    def divisor(self) -> int:
        """Every width must be a multiple of this."""
        return math.lcm(*(getattr(factory, "divisor", 1) for factory in (self.unit, self.trunk)))


PREACT = UnitStyle(PreActUnit, PreActUnit)
RESNEXT = UnitStyle(ResNeXtUnit, ResNeXtUnit, preact=False)
INCEPTION = UnitStyle(InceptionUnit, InceptionUnit)
VGG = UnitStyle(PreActUnit, VGGUnit)
DENSE = UnitStyle(PreActUnit, DenseUnit)
