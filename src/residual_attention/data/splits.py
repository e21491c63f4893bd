"""Seeded sampling by label: held-out splits, balanced subsets, label noise."""

import torch
from torch import Tensor

from ..errors import UserError
from .randomness import torch_generator


class HeldOutNotice(str):
    """A notice on how the split ``name`` ("validation" or "test") was held out."""

    name: str

    def __new__(cls, name: str, text: str) -> "HeldOutNotice":
        notice = super().__new__(cls, text)
        notice.name = name
        return notice


def evenly_spaced(total: int, count: int) -> Tensor:
    """``count`` sorted int64 indices, evenly spaced over ``total``; all of them if ``total`` is not larger."""
    if total <= count:
        return torch.arange(total)
    return torch.linspace(0, total - 1, count).round().long()


def _drawn(members: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    count = min(len(members) - 1, max(1, round(fraction * len(members)))) if fraction > 0 else 0
    return members[torch.randperm(len(members), generator=generator)[:count]]


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Sorted indices to keep and to hold out: ``fraction`` of each class, but never its last sample.

    A class of two or more samples gives at least one (unless ``fraction`` is 0), so that it can be validated.
    Samples of several labels, a matrix of 0 and 1, are drawn at random.
    """
    if labels.ndim == 2:
        held = [_drawn(torch.arange(len(labels)), fraction, torch_generator(seed, "split"))]
    else:
        held = [
            _drawn((labels == label).nonzero().flatten(), fraction, torch_generator(seed, "split", label))
            for label in labels.unique().tolist()
        ]
    held_out = torch.cat(held).sort().values if held else torch.empty(0, dtype=torch.int64)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held_out] = False
    return kept.nonzero().flatten(), held_out


def class_balanced_subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Sorted indices of ``count`` samples, spread over the classes as evenly as their sizes allow.

    Samples of several labels, a matrix of 0 and 1, are drawn at random.
    """
    if labels.ndim == 2:
        return torch.randperm(len(labels), generator=torch_generator(seed, "subset"))[:count].sort().values
    ranks = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=torch_generator(seed, "subset", label))
        ranks[members[order]] = torch.arange(len(members))
    return ranks.argsort(stable=True)[:count].sort().values


def add_label_noise(labels: Tensor, rate: float, num_classes: int, seed: int) -> Tensor:
    """Replace ``round(rate * n)`` labels with another class, drawn uniformly (symmetric noise)."""
    if num_classes < 2:
        raise UserError("label noise needs at least two classes")
    generator = torch_generator(seed, "label noise")
    chosen = torch.randperm(len(labels), generator=generator)[: round(rate * len(labels))]
    noisy = labels.clone()
    shift = torch.randint(1, num_classes, (len(chosen),), generator=generator)
    noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy
