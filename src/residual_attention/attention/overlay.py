"""A mask as a heat map over its image, in colours that colour-blind readers can tell apart."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from torch import Tensor

UNSIGNED, SIGNED = "magma", "PuOr_r"  # one hue's lightness; two hues about zero
OPACITY = 0.6


def reduce_mask(mask: Tensor, channel: int | None = None) -> Tensor:
    """(C, h, w) to (h, w): the mean over channels, or one channel."""
    if channel is None:
        return mask.mean(0)
    if not 0 <= channel < len(mask):
        raise ValueError(f"channel must lie between 0 and {len(mask) - 1}, not {channel}")
    return mask[channel]


def upsample(mask: Tensor, height: int, width: int) -> Tensor:
    """(h, w) to (height, width), bilinear and corner-aligned, as the network itself resizes its masks."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="bilinear", align_corners=True)[0, 0]


def display_range(mask: Tensor, signed: bool) -> tuple[float, float]:
    """The values at both ends of the colours: symmetric about 0 when signed, else the mask's own range."""
    if signed:
        top = max(float(mask.abs().max()), 1e-6)
        return -top, top
    low, high = float(mask.min()), float(mask.max())
    return (low, high) if high - low > 1e-6 else (low - 0.5e-6, high + 0.5e-6)


def mask_overlay(image: np.ndarray, mask: Tensor, *, signed: bool = False, opacity: float = OPACITY) -> np.ndarray:
    """Draw ``mask`` (h, w) over ``image`` (H, W, 3) uint8; returns (H, W, 3) uint8.

    Colours span the mask's own range (`display_range`), so that its shape shows; name the range beside it.
    """
    height, width = image.shape[:2]
    values = upsample(mask, height, width)
    low, high = display_range(mask, signed)
    colours = colormaps[SIGNED if signed else UNSIGNED](((values - low) / (high - low)).clamp(0, 1).numpy())[..., :3]
    gray = image.mean(axis=2, keepdims=True).repeat(3, axis=2)  # the image's own colours would mix with the map's
    blended = (1 - opacity) * gray + opacity * 255.0 * colours
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def as_picture(images: Tensor) -> np.ndarray:
    """uint8 (B, C, H, W) of 1 or 3 channels to (B, H, W, 3)."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}")
    pictures = images.permute(0, 2, 3, 1).numpy()
    return pictures.repeat(3, axis=3) if pictures.shape[3] == 1 else pictures
