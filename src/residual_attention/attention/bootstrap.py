"""The mean of a measure over images and networks, with its bootstrap interval."""

from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, from ``low`` to ``high``."""

    mean: float
    low: float
    high: float


def bootstrap(values: Tensor, seed: int = 0) -> Interval:
    """Mean and 95 % percentile interval from `RESAMPLES` resamples.

    ``values``: (N,) over images, or (M, N) of M networks on the same images. Networks are then resampled too, each
    resample with one draw of images for all of them.
    """
    rows = values.double()[None] if values.ndim == 1 else values.double()
    generator = torch.Generator().manual_seed(seed)
    networks, images = rows.shape
    index = torch.randint(images, (RESAMPLES, images), generator=generator)
    if networks == 1:
        means = rows[0][index].mean(dim=1)
    else:
        chosen = torch.randint(networks, (RESAMPLES, networks), generator=generator)
        means = torch.stack([rows[who][:, of].mean() for who, of in zip(chosen, index, strict=True)])
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(rows.mean().item(), low, high)
