"""The mean of a measure over images, with its bootstrap interval."""

from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over images and its 95 % interval, from ``low`` to ``high``."""

    mean: float
    low: float
    high: float


def bootstrap(values: Tensor, seed: int = 0) -> Interval:
    """Mean of (N,) over images and its 95 % percentile interval from `RESAMPLES` resamples."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    means = values.double()[index].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(values.double().mean().item(), low, high)
