"""The maps that are compared: mask readings, other methods, and baselines that ignore the image."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ..family.staged import StagedNetwork
from .geometry import upsample
from .peers import peer_maps
from .readings import RIVAL, Look, combined, last_of_each_stage, look, read, signed_sum

CENTRE_SIGMA = 0.25  # share of the side
OTHER = "class alone, combined" if RIVAL else "class against its rival, combined"
RANDOM_POSITIONS = 8  # per side: as coarse as the coarsest masks of the networks for small images


def centre_prior(count: int, size: int) -> Tensor:
    """A Gaussian around the centre: (count, size, size)."""
    axis = (torch.arange(size) + 0.5) / size - 0.5
    one = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * CENTRE_SIGMA**2))
    return one.expand(count, size, size)


def random_maps(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Uniform noise on a coarse grid, upsampled like a mask: (count, size, size)."""
    return upsample(torch.rand(count, RANDOM_POSITIONS, RANDOM_POSITIONS, generator=generator), size, size)


def _mask_maps(found: Look, size: int) -> OrderedDict[str, Tensor]:
    """Readings of the last module of each stage, and their combinations."""
    names = last_of_each_stage(list(found.masks))
    maps: OrderedDict[str, Tensor] = OrderedDict()
    mean, by_class = read(found, "mean"), read(found, "class")
    for label, reading in (("mean", mean), ("class", by_class)):
        for name in names:
            maps[f"{label}, {name}"] = upsample(reading[name], size, size)
    maps[f"excited, {names[-1]}"] = upsample(read(found, "excited")[names[-1]], size, size)
    maps["class, signed"] = signed_sum(found.contributions, size)
    maps["mean, combined"] = combined(mean, size)
    maps["class, combined"] = combined(by_class, size)
    return maps


def method_maps(
    model: nn.Module,
    images: Tensor,
    generator: torch.Generator,
    *,
    targets: Tensor | None = None,
    score_cam: bool = False,
) -> tuple[OrderedDict[str, Tensor], Look]:
    """All maps of preprocessed ``images`` (B, C, S, S), name -> (B, S, S) on the CPU.

    They explain ``targets`` (B,), by default the predicted classes.
    """
    assert isinstance(model, StagedNetwork)
    size = images.shape[-1]
    found = look(model, images, targets=targets)
    maps = _mask_maps(found, size)
    other = look(model, images, targets=targets, rival=not RIVAL)
    maps[OTHER] = combined(read(other, "class"), size)
    for name, each in peer_maps(model, images, found.targets, score_cam=score_cam).items():
        maps[name] = upsample(each, size, size)
    maps["centre prior"] = centre_prior(len(images), size)
    maps["random"] = random_maps(len(images), size, generator)
    return OrderedDict((name, each.detach().float().cpu()) for name, each in maps.items()), found
