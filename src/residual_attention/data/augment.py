"""Vectorised augmentation of a batch on its device, drawn independently for each sample.

Random numbers are drawn on the CPU, from one generator per step, so they do not depend on the device.
Each transform then runs on the entire batch. Images are normalised, (B, C, H, W), so 0 is the mean colour.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .strengths import Augment
from .transfer import to_device


def flip_and_crop(images: Tensor, augment: Augment, rng: np.random.Generator) -> Tensor:
    """Pad each image, take a random crop, and mirror it with probability 1/2 (He et al., 2016).

    Shapes: (B, C, H, W) to the same.
    """
    count, _, height, width = images.shape
    pad = augment.crop_padding or 0
    if pad:
        offsets = to_device(rng.integers(0, 2 * pad + 1, size=(2, count)), images.device)
        mode = "reflect" if augment.padding == "reflect" else "constant"
        padded = F.pad(images, (pad, pad, pad, pad), mode)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, y, x, H, W)
        images = windows[torch.arange(count, device=images.device), :, offsets[0], offsets[1]]
    if augment.flip:
        mirrored = to_device(rng.random(count) < 0.5, images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def shift_and_rotate(images: Tensor, augment: Augment, rng: np.random.Generator) -> Tensor:
    """Rotate about the centre and shift, with bilinear sampling; uncovered areas become 0."""
    if not augment.shift and not augment.rotation:
        return images
    count, _, height, width = images.shape
    angle = np.deg2rad(rng.uniform(-augment.rotation, augment.rotation, count))
    shift = rng.uniform(-augment.shift, augment.shift, size=(2, count)) * 2  # in grid units (the side is 2)
    cos, sin, ratio = np.cos(angle), np.sin(angle), height / width
    rows = [np.stack([cos, -sin * ratio, shift[0]], -1), np.stack([sin / ratio, cos, shift[1]], -1)]
    theta = to_device(np.stack(rows, 1).astype(np.float32), images.device)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.dtype)
    return F.grid_sample(images, grid, align_corners=False)


def _box_masks(count: int, height: int, width: int, box_height: np.ndarray, box_width: np.ndarray, rng) -> np.ndarray:
    """Boolean (B, H, W): True inside a box of the given sides, centred anywhere in the image."""
    top = rng.integers(0, height, count) - box_height // 2
    left = rng.integers(0, width, count) - box_width // 2
    rows, columns = np.arange(height)[None], np.arange(width)[None]
    in_rows = (rows >= top[:, None]) & (rows < (top + box_height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + box_width)[:, None])
    return in_rows[:, :, None] & in_columns[:, None]


def cutout(images: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Set one square of ``side`` px in each image to 0 (DeVries and Taylor, 2017); it may cross the border."""
    if not side:
        return images
    count, _, height, width = images.shape
    sides = np.full(count, side)
    keep = ~_box_masks(count, height, width, sides, sides, rng)
    return images * to_device(keep[:, None], images.device, images.dtype)


def mix(images: Tensor, targets: Tensor, augment: Augment, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019) of each image with its neighbour in the batch.

    ``targets`` (B, K) are distributions. If both are on, each batch uses one, chosen at random. The mixing ratio is
    drawn for each sample.
    """
    if not augment.mixes:
        return images, targets
    count, _, height, width = images.shape
    cut = augment.cutmix > 0 and (augment.mixup == 0 or rng.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    share = rng.beta(alpha, alpha, count)  # of the image itself
    if cut:
        box_height = np.round(height * np.sqrt(1 - share)).astype(np.int64)
        box_width = np.round(width * np.sqrt(1 - share)).astype(np.int64)
        keep = ~_box_masks(count, height, width, box_height, box_width, rng)
        share = keep.mean(axis=(1, 2))
        weight = to_device(keep[:, None], images.device, images.dtype)  # (B, 1, H, W)
    else:
        weight = to_device(share[:, None, None, None], images.device, images.dtype)
    images = images * weight + images.roll(1, 0) * (1 - weight)
    share_t = to_device(share[:, None], targets.device, targets.dtype)
    return images, targets * share_t + targets.roll(1, 0) * (1 - share_t)


def augment_batch(
    images: Tensor, labels: Tensor, num_classes: int, augment: Augment, rng: np.random.Generator, regions: int = 0
) -> tuple[Tensor, Tensor]:
    """Apply all of the above to normalised images (B, C, H, W) with labels (B,).

    The last ``regions`` channels are moved and cut out with the others, but not mixed.

    Returns images and targets: the labels unchanged, or (B, num_classes) distributions when mixing.
    """
    images = flip_and_crop(images, augment, rng)
    images = shift_and_rotate(images, augment, rng)
    images = cutout(images, augment.cutout, rng)
    if not augment.mixes:
        return images, labels
    targets = labels if labels.ndim == 2 else F.one_hot(labels, num_classes).to(torch.float32)
    chans = images.shape[1] - regions
    mixed, targets = mix(images[:, :chans], targets, augment, rng)
    return (torch.cat([mixed, images[:, chans:]], dim=1) if regions else mixed), targets


def crop_at_random(images: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """One window of ``side`` px per batch, at a random place: (B, C, H, W) to (B, C, side, side)."""
    top, left = (int(rng.integers(0, full - side + 1)) for full in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def progressive_size(full: int, start: float, progress: float, least: int, multiple: int = 8) -> int:
    """The image side in px during a run: it grows from ``start * full`` to ``full`` over the first 60 %.

    A multiple of ``multiple`` px, at least ``least``, and exactly ``full`` at the end. ``progress`` goes from 0 to 1.
    """
    share = start + (1 - start) * min(1.0, progress / 0.6)
    if share >= 1.0:
        return full
    return min(full, max(least, multiple * math.floor(full * share / multiple)))
