"""Seeded choices among labels: held-out shares, balanced subsets, label noise."""

import torch
from torch import Tensor

from ..errors import UserError
from .randomness import torch_generator


def evenly_spaced(total: int, count: int) -> Tensor:
    """``count`` sorted indices, evenly spaced over ``total``; all of them when there are no more: int64."""
    if total <= count:
        return torch.arange(total)
    return torch.linspace(0, total - 1, count).round().long()


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices kept and held out, sorted; each class gives ``fraction`` of its own, but never its last sample.

    A class of two or more gives at least one, so that every class that can be validated is.
    """
    held: list[Tensor] = []
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        count = min(len(members) - 1, max(1, round(fraction * len(members)))) if fraction > 0 else 0
        order = torch.randperm(len(members), generator=torch_generator(seed, "split", label))
        held.append(members[order[:count]])
    held_out = torch.cat(held).sort().values if held else torch.empty(0, dtype=torch.int64)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held_out] = False
    return kept.nonzero().flatten(), held_out


def class_balanced_subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Sorted indices of ``count`` samples, as equal over the classes as their sizes allow."""
    ranks = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=torch_generator(seed, "subset", label))
        ranks[members[order]] = torch.arange(len(members))
    return ranks.argsort(stable=True)[:count].sort().values


def add_label_noise(labels: Tensor, rate: float, num_classes: int, seed: int) -> Tensor:
    """Labels of which ``round(rate * n)`` are replaced by another class, each drawn uniformly (symmetric noise)."""
    if num_classes < 2:
        raise UserError("label noise needs at least two classes")
    generator = torch_generator(seed, "label noise")
    chosen = torch.randperm(len(labels), generator=generator)[: round(rate * len(labels))]
    noisy = labels.clone()
    shift = torch.randint(1, num_classes, (len(chosen),), generator=generator)
    noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy
