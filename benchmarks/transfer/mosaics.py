"""Localisation in a grid pointing game: how much of a map lies on the right quarter of a 2x2 mosaic."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from residual_attention.attention.geometry import upsample
from residual_attention.attention.peers import grad_cam
from residual_attention.attention.readings import combined, look, read
from residual_attention.family.staged import StagedNetwork

from .images import Images

MOSAICS_AT_ONCE = 20


def mosaics(data: Images, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised mosaics (1, 3, 2S, 2S) of four classes, and their labels (4,), row by row."""
    rng = np.random.default_rng(seed)
    classes = data.labels.unique().numpy()
    for _ in range(count):
        chosen = rng.choice(classes, 4, replace=False)
        index = [int(rng.choice(np.flatnonzero(data.labels.numpy() == label))) for label in chosen]
        tiles = data.normalized(data.images[index])
        rows = [torch.cat([tiles[0], tiles[1]], dim=2), torch.cat([tiles[2], tiles[3]], dim=2)]
        yield torch.cat(rows, dim=1)[None], torch.from_numpy(chosen)


def shares_on(maps: Tensor, quarters: Tensor) -> Tensor:
    """The share of each map's (B, S, S) positive part on its quarter (B,), counted row by row; (B,)."""
    positive = maps.clamp(min=0)
    half = positive.shape[-1] // 2
    by_quarter = positive.unflatten(1, (2, half)).unflatten(3, (2, half)).sum(dim=(2, 4)).flatten(1)  # (B, 4)
    total = by_quarter.sum(dim=1)
    share = by_quarter.gather(1, quarters[:, None])[:, 0] / total.clamp(min=1e-12)
    return torch.where(total > 0, share, 0.25)


def maps_of(model: StagedNetwork, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Maps (B, s, s) of the target classes, by method: Grad-CAM and, where the network has masks, theirs."""
    maps = {"Grad-CAM": grad_cam(model, images, targets)}
    if any(".mask." in name for name, _ in model.named_parameters()):
        masks = read(look(model, images, targets=targets), "class")
        maps["masks, last stage"] = list(masks.values())[-1]
        maps["masks, combined"] = combined(masks, images.shape[-1])
    return maps


def localisation(model: StagedNetwork, data: Images, count: int) -> dict[str, float]:
    """Mean share on the right quarter, by method; 0.25 is chance."""
    found: dict[str, list[Tensor]] = {}
    device = next(model.parameters()).device
    model.eval()
    drawn = list(mosaics(data, count, 0))
    for first in range(0, len(drawn), MOSAICS_AT_ONCE):
        some = drawn[first : first + MOSAICS_AT_ONCE]
        images = torch.cat([image for image, _ in some]).repeat_interleave(4, dim=0).to(device)
        targets = torch.cat([labels for _, labels in some]).to(device)
        quarters = torch.arange(4).repeat(len(some))
        for name, each in maps_of(model, images, targets).items():
            large = upsample(each.float(), images.shape[-1], images.shape[-1])
            found.setdefault(name, []).append(shares_on(large.detach().cpu(), quarters))
    return {name: torch.cat(values).mean().item() for name, values in found.items()}
