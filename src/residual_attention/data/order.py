"""Which samples make up a batch, and which of those this process takes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .randomness import torch_generator


@dataclass(frozen=True)
class Replica:
    """This process, ``rank``, among the ``world`` that split each batch between them."""

    rank: int = 0
    world: int = 1


def epoch_order(labels: Tensor, *, seed: int, epoch: int, balanced: bool = False) -> Tensor:
    """All samples once in order, (N,); ``balanced`` draws each class equally often, with replacement."""
    if balanced and labels.ndim == 2:
        raise UserError("balanced_sampling needs data with one class per image")
    generator = torch_generator(seed, "order", epoch)
    if not balanced:
        return torch.randperm(len(labels), generator=generator)
    weights = 1.0 / torch.bincount(labels)[labels].double()
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches only; a set smaller than one batch is one batch."""
    return max(1, count // batch_size)


def batch_indices(order: Tensor, batch_size: int, step: int, replica: Replica) -> Tensor:
    """This process's part of a batch of an epoch."""
    return order[step * batch_size : (step + 1) * batch_size][replica.rank :: replica.world]
