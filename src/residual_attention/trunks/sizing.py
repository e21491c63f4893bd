"""How deep and how wide the mask of each stage is, and the smallest image that the network takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..family.stage_attention import StageMask
from .stages import Layout, Stage

LOWEST_MAP = 7  # px, where the paper's masks end
MOST_OVERHEAD = 0.25  # of the trunk's multiply-accumulates
WIDTHS = (1 / 4, 1 / 8, 1 / 16, 1 / 32)  # shares of x's channels, the first that the overhead allows
LEAST_WIDTH, WIDTH_STEP = 8, 8


@dataclass(frozen=True)
class Sizing:
    """``depths`` and ``widths`` of the masks, one for each stage with attention."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


def mask_depth(size: int) -> int:
    """Poolings from a map of ``size`` down to about 7x7: 3 for 56, 0 for 7."""
    return max(0, round(log2(max(1, size) / LOWEST_MAP)))


def mask_width(chs: int, share: float) -> int:
    return max(LEAST_WIDTH, WIDTH_STEP * round(chs * share / WIDTH_STEP))


def macs(module: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of one forward pass, on the meta device."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(images)
    return counter.get_total_flops() // 2


def mask_macs(stage: Stage, mask: StageMask) -> int:
    with torch.device("meta"):
        branch = mask.build(stage.in_chs, stage.out_chs).eval()
        return macs(branch, torch.empty(1, stage.in_chs, stage.size, stage.size))


def size_masks(stages: Sequence[Stage], trunk_macs: int) -> Sizing:
    """The widest masks whose multiply-accumulates stay within a quarter of the trunk's, all at one share of x."""
    depths = tuple(mask_depth(stage.size) for stage in stages)
    widths: tuple[int, ...] = ()
    for share in WIDTHS:
        widths = tuple(mask_width(stage.in_chs, share) for stage in stages)
        masks = [StageMask(width=width, depth=depth) for width, depth in zip(widths, depths, strict=True)]
        cost = sum(mask_macs(stage, mask) for stage, mask in zip(stages, masks, strict=True))
        if cost <= MOST_OVERHEAD * trunk_macs:
            break
    return Sizing(depths, widths)


def narrowed(mask: StageMask, width: int, depth: int) -> StageMask:
    return replace(mask, width=width, depth=depth)


def map_sizes(model: nn.Module, layout: Layout, image_size: int, in_chans: int) -> list[int] | None:
    """The side of x in every stage with attention for square images of ``image_size`` px; None if they are too small.

    ``model`` is on the meta device and still whole.
    """
    x = torch.empty(2, in_chans, image_size, image_size, device="meta")
    sizes: list[int] = []
    try:
        with torch.no_grad():
            for stage in (*layout.stem, *layout.stages):
                for link in stage.before:
                    x = model.get_submodule(link.path)(x)
                if stage.trunk:
                    sizes.append(min(x.shape[-2:]))
                    before = x.shape[-2:]
                for link in (*stage.trunk, *stage.after):
                    x = model.get_submodule(link.path)(x)
                if stage.trunk and x.shape[-2:] != before and not stage.after:
                    return None
            for link in layout.final:
                x = model.get_submodule(link.path)(x)
            model.forward_head(x)  # type: ignore[operator]
    except (RuntimeError, ValueError, AssertionError):
        return None
    return sizes if min(x.shape[-2:]) > 0 else None


def smallest_input(model: nn.Module, layout: Layout, depths: Sequence[int], most: int, in_chans: int) -> int:
    """The smallest side, in pixels, that every layer accepts and at which every pooling reads at least two positions.

    ``most`` is a size that is known to fit.
    """

    def fits(size: int) -> bool:
        sizes = map_sizes(model, layout, size, in_chans)
        return sizes is not None and all(_poolings_fit(*pair) for pair in zip(sizes, depths, strict=True))

    low, high = 0, most  # low does not fit, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _poolings_fit(size: int, depth: int) -> bool:
    for _ in range(depth):
        if size < 2:
            return False
        size = -(-(size - 1) // 2)
    return True
