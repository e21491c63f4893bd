"""Example images of a split: the most confident mistakes, and confident successes from many classes."""

from typing import NamedTuple

import torch
from torch import Tensor

from .evaluate import Evaluation


class Examples(NamedTuple):
    """``positions`` (n,) in a split; of a multi-label classifier, the label that each is drawn for, ``labels`` (n,)."""

    positions: Tensor
    labels: Tensor | None = None


class Chosen(NamedTuple):
    mistakes: Examples
    successes: Examples


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
    return result.indices[order[_in_turns(result.labels[order])[:count]]]


def _in_turns(labels: Tensor) -> Tensor:
    """The order (n,) that takes the first of every class, then the second of every class, and so on."""
    taken: dict[int, int] = {}
    turns = []  # how many of the same class come before
    for label in labels.tolist():
        turns.append(taken.get(label, 0))
        taken[label] = turns[-1] + 1
    return torch.tensor(turns, dtype=torch.int64).argsort(stable=True)


def examples_of_labels(result: Evaluation, given: Tensor, probabilities: Tensor, count: int) -> Chosen:
    """Answers of a multi-label classifier, each an image and one of its labels: ``given`` and ``probabilities`` (N, K).

    The mistakes are those that surprise the network most, labels that it gives wrongly or misses; the successes are
    labels found with the highest probability, from as many labels as possible. An image may be among both.
    """
    truth = result.labels.bool()
    of_truth = torch.where(truth, probabilities, 1 - probabilities)

    def ordered(chosen: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = chosen.nonzero(as_tuple=True)
        order = by[images, labels].argsort(stable=True)
        return images[order], labels[order]

    images, labels = ordered(given != truth, of_truth)
    mistakes = Examples(result.indices[images[:count]], labels[:count])
    images, labels = ordered(given & truth, -probabilities)
    order = _in_turns(labels)[:count]
    return Chosen(mistakes, Examples(result.indices[images[order]], labels[order]))
