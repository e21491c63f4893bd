"""Where the evidence for a class lies: the reading *class* of every mask, combined over the modules, image by image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention.bootstrap import Interval, bootstrap
from ..attention.localisation import coverage
from ..attention.readings import combined, images_at_once, look, read
from ..checkpoints import Classifier
from ..devices import device_of
from .gather import Gathered
from .spots import LATTICE

BORDER = 2  # cells of the lattice: an eighth of the side
CROP = 0.25  # of the side: what is drawn around a peak


@dataclass(frozen=True)
class Evidence:
    """Of N images: ``maps`` (N, LATTICE, LATTICE), each of sum 1; ``features`` (N, D) of the last mask's output at the
    map's peak; ``peaks`` (N, 2), its x and y as shares of the side; ``predicted`` (N,)."""

    maps: Tensor
    features: Tensor
    peaks: Tensor
    predicted: Tensor
    outside: Tensor | None


def collect(model: Classifier, gathered: Gathered, tell: Callable[[int], None]) -> Evidence:
    """Look at every image, at the class it is labelled with. ``tell`` is called with the number of images done."""
    device, size = device_of(model), model.preprocess.image_size
    rows: list[tuple[Tensor, ...]] = []
    outside: list[Tensor] = []
    at_once = images_at_once(size)
    for start in range(0, len(gathered), at_once):
        part = slice(start, start + at_once)
        squares = model.preprocess.normalize(gathered.images[part].to(device))
        found = look(model, squares, targets=gathered.labels[part], features=True)
        heat = combined(read(found, "class"), size)
        heat = heat / heat.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        peaks = _peaks(heat)
        last = next(reversed(found.after.values()))
        rows.append(tuple(t.cpu() for t in (_on_lattice(heat), _at(last, peaks), peaks, found.logits.argmax(dim=1))))
        if gathered.boxes is not None:
            inside = torch.stack([coverage(boxes, size, size) for boxes in gathered.boxes[part]])
            outside.append(1 - (heat.cpu() * inside).sum(dim=(1, 2)))
        tell(min(start + at_once, len(gathered)))
    maps, features, peaks, predicted = (torch.cat(column) for column in zip(*rows, strict=True))
    return Evidence(maps, features, peaks, predicted, torch.cat(outside) if outside else None)


def _on_lattice(heat: Tensor) -> Tensor:
    """(B, S, S) to (B, LATTICE, LATTICE): the sum in each cell."""
    pooled = F.interpolate(heat[:, None], (LATTICE, LATTICE), mode="area")[:, 0]
    return pooled / pooled.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def _peaks(heat: Tensor) -> Tensor:
    """(B, S, S) to (B, 2): x and y of the hottest pixel's centre, shares of the side. Smoothed, so that one pixel alone
    decides nothing."""
    width = heat.shape[2]
    kernel = max(1, width // 8) | 1
    smooth = F.avg_pool2d(heat[:, None], kernel, stride=1, padding=kernel // 2, count_include_pad=False)[:, 0]
    hottest = smooth.flatten(1).argmax(dim=1)
    return torch.stack([hottest % width, hottest // width], dim=1).add(0.5) / width


def _at(maps: Tensor, points: Tensor) -> Tensor:
    """(B, C, h, w) at points (B, 2): (B, C)."""
    rows, columns = ((points[:, axis] * maps.shape[3 - axis]).long() for axis in (1, 0))
    return maps[torch.arange(len(maps), device=maps.device), :, rows, columns]


def border_share(maps: Tensor) -> Tensor:
    """(N, LATTICE, LATTICE) to (N,): the share in the outer `BORDER` cells."""
    return 1 - maps[:, BORDER:-BORDER, BORDER:-BORDER].sum(dim=(1, 2))


def border_of_uniform() -> float:
    return 1 - ((LATTICE - 2 * BORDER) / LATTICE) ** 2


def same_place(maps: Tensor) -> float:
    """Mean cosine of each map and the mean of the others, (N, LATTICE, LATTICE): 1 if all are alike."""
    if len(maps) < 2:
        return 1.0
    flat = maps.flatten(1)
    others = (flat.sum(dim=0, keepdim=True) - flat) / (len(flat) - 1)
    return float(F.cosine_similarity(flat, others).mean())


def percent(values: Tensor, seed: int) -> Interval:
    """Mean of shares (N,) in percent, with its interval."""
    return bootstrap(100 * values, seed)
