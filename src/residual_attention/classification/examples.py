"""Example images of a split: the most confident mistakes, and confident successes from many classes."""

import torch
from torch import Tensor

from .evaluate import Evaluation


def worst_mistakes(result: Evaluation, count: int) -> Tensor:
    """Positions in the split of the most confident wrong predictions, worst first: up to (count,) int64."""
    confidence, predicted = result.probabilities.max(dim=1)
    wrong = (predicted != result.labels).nonzero()[:, 0]
    order = confidence[wrong].argsort(descending=True, stable=True)
    return result.indices[wrong[order[:count]]]


def clear_successes(result: Evaluation, count: int) -> Tensor:
    """Positions of the most confident correct predictions, from as many classes as possible: up to (count,) int64."""
    confidence, predicted = result.probabilities.max(dim=1)
    right = (predicted == result.labels).nonzero()[:, 0]
    order = right[confidence[right].argsort(descending=True, stable=True)]
    taken: dict[int, int] = {}
    turns = []  # how many of the same class come before
    for label in result.labels[order].tolist():
        turns.append(taken.get(label, 0))
        taken[label] = turns[-1] + 1
    by_turn = torch.tensor(turns, dtype=torch.int64).argsort(stable=True)
    return result.indices[order[by_turn[:count]]]
