"""The attention module: trunk branch, soft mask branch, and their fusion (paper, section 3)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .units import BNReLU, UnitStyle, conv


class MixedMask(nn.Module):
    """Mixed attention (paper, eq. 4): M = sigmoid(x), in (0, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class ChannelMask(nn.Module):
    """Channel attention (paper, eq. 5): x / max(||x[i, :]||_2, 1e-6) at each position i, in [-1, 1]."""

    signed = True

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.float(), dim=1, eps=1e-6).to(x.dtype)  # (B, C, H, W)


class SpatialMask(nn.Module):
    """Spatial attention (paper, eq. 6): sigmoid((x - mean_c) / std_c), in (0, 1).

    Mean and population variance are over the positions of each channel; 1e-5 under the root, which
    is not in the paper, keeps a 1x1 or constant map finite.
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)  # (B, C, 1, 1)
        return torch.sigmoid((x.float() - mean) * torch.rsqrt(variance + 1e-5)).to(x.dtype)


class SoftMaskBranch(nn.Module):
    """The mask's bottom-up top-down part (paper, fig. 2 and 3), recursive in its depth d.

    B_d(x) = resize(up(y), size of x),  y = down(pool(x)) for d = 1,
    y = B_{d-1}(z) + skip(z) with z = down(pool(x)) for d > 1.

    The resize is bilinear and corner-aligned and uses only the *size* of x: no value of the trunk or
    of an earlier level enters there. ``resample=False`` omits pool and resize (the paper's "local
    convolutions", section 4.1).

    Shapes: (B, C, H, W) to the same; H and W at least 2 at every pool.
    """

    def __init__(self, chs: int, depth: int, style: UnitStyle, r: int, skip: bool, resample: bool) -> None:
        super().__init__()
        units = [style.unit(chs, chs) for _ in range(2 * r)]
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True) if resample else None
        self.down = nn.Sequential(*units[:r])
        self.inner = SoftMaskBranch(chs, depth - 1, style, r, skip, resample) if depth > 1 else None
        self.skip = style.unit(chs, chs) if depth > 1 and skip else None
        self.up = nn.Sequential(*units[r:])

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        if self.pool is not None:
            x = self.pool(x)  # (B, C, ceil((H - 1) / 2), ceil((W - 1) / 2))
        x = self.down(x)
        if self.inner is not None:
            x = self.inner(x) if self.skip is None else self.inner(x) + self.skip(x)
        x = self.up(x)
        if self.pool is not None:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
        return x


def mask_head(chs: int, preact: bool) -> nn.Sequential:
    """Two 1x1 convolutions before the mask activation; AttentionNeXt's have no leading BN-ReLU."""
    layers = [conv(chs, chs, 1), BNReLU(chs), conv(chs, chs, 1)]
    return nn.Sequential(BNReLU(chs), *layers) if preact else nn.Sequential(*layers)


Fusion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(mask M, trunk T, input x of both branches) to H, each (B, C, H, W)."""


def residual_fusion(mask: Tensor, trunk: Tensor, x: Tensor) -> Tensor:
    """Attention residual learning (paper, eq. 3): H = (1 + M) * T = T + M * T, in one pass over memory."""
    return torch.addcmul(trunk, mask, trunk)


def naive_fusion(mask: Tensor, trunk: Tensor, x: Tensor) -> Tensor:
    """Naive attention learning (paper, section 4.1): H = M * T."""
    return mask * trunk


def input_fusion(mask: Tensor, trunk: Tensor, x: Tensor) -> Tensor:
    """H = x + M * T, the input instead of the trunk: found in some descriptions of the network, *not in the paper*."""
    return torch.addcmul(x, mask, trunk)


class AttentionModule(nn.Module):
    """H(x) = (1 + M(x)) * T(x) (attention residual learning, paper eq. 3), or another ``fusion`` of M, T and x.

    Without a fusion there is no mask, and H(x) = T(x): a residual network of the same depth, the paper's baseline
    (section 4.1).

    p shared units come before and p after; x is the output of the first p. The trunk T has t units; the mask M is the
    soft mask branch, its head and its ``activation``. ``module.mask`` returns M and ``module.trunk`` returns T:
    recording sets its hooks there.

    Shapes: (B, C, H, W) to the same.
    """

    def __init__(
        self,
        chs: int,
        depth: int,
        style: UnitStyle,
        *,
        p: int,
        t: int,
        r: int,
        activation: Callable[[], nn.Module] = MixedMask,
        fusion: Fusion | None = residual_fusion,
        skip: bool = True,
        resample: bool = True,
    ) -> None:
        super().__init__()
        mask = None
        if fusion is not None:
            branch = SoftMaskBranch(chs, depth, style, r, skip, resample)
            mask = nn.Sequential(branch, mask_head(chs, style.preact), activation())
        self._assemble(
            pre=nn.Sequential(*[style.unit(chs, chs) for _ in range(p)]),
            trunk=nn.Sequential(*[style.trunk(chs, chs) for _ in range(t)]),
            mask=mask,
            fusion=fusion,
            signed=bool(getattr(activation, "signed", False)),
            post=nn.Sequential(*[style.unit(chs, chs) for _ in range(p)]),
        )

    def _assemble(
        self,
        *,
        pre: nn.Sequential,
        trunk: nn.Sequential,
        mask: nn.Sequential | None,
        fusion: Fusion | None,
        signed: bool,
        post: nn.Sequential,
    ) -> None:
        self.pre, self.trunk, self.mask, self.post = pre, trunk, mask, post
        self.fusion, self.masks_are_signed = fusion, signed

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        trunk = self.trunk(x)  # T
        if self.mask is None or self.fusion is None:
            return self.post(trunk)
        return self.post(self.fusion(self.mask(x), trunk, x))
