"""The sizes of the network's feature maps, and the smallest image that it accepts."""

import math
from collections.abc import Sequence
from typing import Any

from .stems import Stem


def stage_strides(num_stages: int) -> tuple[int, ...]:
    """The stride of each stage's first unit: 1 in the first stage, 2 after."""
    return tuple(1 if i == 0 else 2 for i in range(num_stages))


def feature_levels(stem: Stem, widths: Sequence[int], final_width: int, final_stride: int) -> list[dict[str, Any]]:
    """timm's ``feature_info``: channels and reduction of the stem, each stage and the final units."""
    levels = [stem.feature_level]
    reduction = stem.reduction
    for i, (width, stride) in enumerate(zip(widths, stage_strides(len(widths)), strict=True)):
        reduction *= stride
        levels.append({"num_chs": width, "reduction": reduction, "module": f"stages.{i}"})
    levels.append({"num_chs": final_width, "reduction": reduction * final_stride, "module": "final"})
    return levels


def smallest_input(stem: Stem, mask_depths: Sequence[int]) -> int:
    """The smallest side, in pixels, at which every pooling of every mask still reads at least two positions.

    ``mask_depths``: number of poolings in the masks of each stage; empty if masks do not resample.
    """
    size = stem.min_size
    while not _poolings_fit(size, stem, mask_depths):
        size += 1
    return size


def _poolings_fit(image_size: int, stem: Stem, mask_depths: Sequence[int]) -> bool:
    size = math.ceil(image_size / stem.reduction)
    for depth, stride in zip(mask_depths, stage_strides(len(mask_depths)), strict=True):
        size = math.ceil(size / stride)
        pooled = size
        for _ in range(depth):
            if pooled < 2:
                return False
            pooled = math.ceil((pooled - 1) / 2)
    return True
