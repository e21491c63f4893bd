"""Attention residual learning on a stage of any convolutional network."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .attention import AttentionModule, Fusion, MixedMask, SoftMaskBranch, residual_fusion
from .units import PREACT, BNReLU, UnitStyle, conv

START = 5.0
"""The size of the bias of a mixed mask's last convolution at the start: sigmoid(-5) = 0.0067."""


@dataclass(frozen=True, kw_only=True)
class StageMask:
    """How the soft mask branch of a stage is built.

    Attributes:
        width: channels inside the branch.
        depth: poolings; 0 keeps the branch at the size of its input.
        bias: the last convolution's bias at the start.
        r, skip, resample, activation: as in `SoftMaskBranch` and `AttentionModule`.
    """

    width: int
    depth: int
    bias: float = -START
    r: int = 1
    skip: bool = True
    resample: bool = True
    style: UnitStyle = PREACT
    activation: Callable[[], nn.Module] = MixedMask

    def build(self, in_chs: int, out_chs: int) -> nn.Sequential:
        """M: (B, in_chs, h, w) to (B, out_chs, h, w), through a branch of ``width`` channels."""
        resample = self.resample and self.depth > 0
        branch = SoftMaskBranch(self.width, max(1, self.depth), self.style, self.r, self.skip, resample)
        last = nn.Conv2d(self.width, out_chs, 1)
        mask = nn.Sequential(
            conv(in_chs, self.width, 1),
            branch,
            nn.Sequential(BNReLU(self.width), conv(self.width, self.width, 1), BNReLU(self.width), last),
            self.activation(),
        )
        self._initialise(mask, last)
        return mask

    def _initialise(self, mask: nn.Sequential, last: nn.Conv2d) -> None:
        """He et al. (2015) with fan-out, as in the family; the last convolution is near its bias."""
        if last.weight.is_meta:
            return
        for module in mask.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        with torch.no_grad():
            nn.init.normal_(last.weight, std=0.01)
            assert last.bias is not None
            last.bias.fill_(self.bias)


class StageAttention(AttentionModule):
    """H = (1 + M(x)) * T(x), or another ``fusion``, where x is the output of a stage's first block and T is the rest.

    T is any module that keeps the size; it may change the number of channels, which M then has too. Departures from
    the paper: M is a narrow branch between two 1x1 convolutions, there are no shared units (p = 0), and a negative bias
    starts M near 0, so that a trained trunk computes what it did without masks. ``mask`` None gives H = T.

    Shapes: (B, in_chs, h, w) to (B, out_chs, h, w).
    """

    def __init__(
        self,
        trunk: nn.Sequential,
        in_chs: int,
        out_chs: int,
        mask: StageMask | None,
        fusion: Fusion | None = residual_fusion,
    ) -> None:
        nn.Module.__init__(self)  # the parts are given, not built from units
        self._assemble(
            pre=nn.Sequential(),
            trunk=trunk,
            mask=None if mask is None or fusion is None else mask.build(in_chs, out_chs),
            fusion=None if mask is None else fusion,
            signed=mask is not None and bool(getattr(mask.activation, "signed", False)),
            post=nn.Sequential(),
        )
