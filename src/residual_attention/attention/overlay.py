"""Draws a map as a heat map over its image, in colours safe for colour-blind readers."""

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from ..errors import UserError
from ..palette import SIGNED, UNSIGNED
from .geometry import upsample

OPACITY = 0.6
UNSEEN = 0.35  # brightness of areas outside the network's input
TINY = 1e-6  # a map that does not exceed it is drawn as 0
LEAST_SPAN = 0.2  # of a map's largest absolute value: what its colours span at least


def display_range(values: Tensor, signed: bool) -> tuple[float, float]:
    """The ends of the colour scale: symmetric about 0 if signed, otherwise the map's range; NaN is ignored.

    The range of a map that varies by less than `LEAST_SPAN` of its largest value is widened to that on both sides, so
    that a nearly flat map looks flat. Signed maps are compared with 0 and need no such rule. The page that `ran export`
    writes does the same in ``page.js``.
    """
    values = values[~values.isnan()]
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if signed:
        top = max(largest, TINY)
        return -top, top
    lacking = LEAST_SPAN * largest - (high - low)
    if lacking > 0:
        low, high = low - lacking / 2, high + lacking / 2
    return low, max(high, low + TINY)


def heat(
    image: np.ndarray,
    values: Tensor,
    *,
    signed: bool = False,
    opacity: float = OPACITY,
    span: tuple[float, float] | None = None,
) -> np.ndarray:
    """Draw ``values`` (H, W) in colour over ``image`` (H, W, 3) uint8, darkened where they are NaN. Returns uint8.

    Colours span what `display_range` gives unless ``span`` gives one, so print the range beside it.
    """
    if values.shape != image.shape[:2]:
        raise UserError(f"the map is {tuple(values.shape)}, the image {image.shape[:2]}")
    low, high = display_range(values, signed) if span is None else span
    unseen = values.isnan().numpy()[..., None]
    share = ((values.nan_to_num(low) - low) / (high - low)).clamp(0, 1).numpy()
    colours = colormaps[SIGNED if signed else UNSIGNED](share)[..., :3]
    gray = image.mean(axis=2, keepdims=True).repeat(3, axis=2)  # the image's own colours would mix with the map's
    blended = np.where(unseen, UNSEEN * gray, (1 - opacity) * gray + opacity * 255.0 * colours)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def mask_overlay(image: np.ndarray, values: Tensor, *, signed: bool = False, opacity: float = OPACITY) -> np.ndarray:
    """Draw a map (h, w) over the network's square input ``image`` (H, W, 3) uint8; returns (H, W, 3) uint8."""
    return heat(image, upsample(values, *image.shape[:2]), signed=signed, opacity=opacity)


def enlarged(picture: np.ndarray, least: int = 128) -> np.ndarray:
    """Enlarge small images by an integer factor without blur, so a smooth map can be drawn over sharp pixels."""
    factor = max(1, -(-least // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def as_picture(images: Tensor) -> np.ndarray:
    """Convert uint8 (B, C, H, W) with 1 or 3 channels to (B, H, W, 3)."""
    if images.dtype != torch.uint8:
        raise UserError(f"images must be uint8, not {images.dtype}")
    pictures = images.permute(0, 2, 3, 1).numpy()
    return pictures.repeat(3, axis=3) if pictures.shape[3] == 1 else pictures
