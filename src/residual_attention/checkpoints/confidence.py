"""How far to trust a classifier's answers, measured on its validation images; stored in its card."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UserError


class Answering(NamedTuple):
    """One point of a risk-coverage curve: of the images whose probability is at least ``threshold``, ``answered`` many,
    ``wrong`` were classified wrongly."""

    threshold: float
    answered: int
    wrong: int


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Attributes:

    temperature: divides the logits before the softmax (Guo et al., 2017); 1 leaves them as they are.
    images: number of validation images that the others were measured on; 0 for a network without any.
    curve: the risk-coverage curve, from the highest threshold to the lowest.
    centre: mean of the pooled features over the validation images, for `likeness`; empty if unknown.
    thresholds: of a multi-label classifier, one for each label: the least probability at which it is given. Empty for
        a classifier with one class per image.
    least_likeness: the likeness that 95 % of the validation images reach; images below are unlike them.
    """

    temperature: float = 1.0
    images: int = 0
    curve: tuple[Answering, ...] = ()
    centre: tuple[float, ...] = ()
    least_likeness: float | None = None
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature must be above 0, not {self.temperature}")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise UserError("thresholds must lie between 0 and 1")

    @property
    def several(self) -> bool:
        """Whether the classifier gives each image any number of labels rather than one class."""
        return len(self.thresholds) > 0

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated class probabilities (..., K) float32 of logits (..., K): a softmax, or with ``several`` labels a
        sigmoid of each."""
        if self.several:
            return (logits.float() / self.temperature).sigmoid()
        return (logits.float() / self.temperature).softmax(dim=-1)

    def as_logits(self, probabilities: Tensor) -> Tensor:
        """Logits (..., K) of which a softmax, or with ``several`` labels a sigmoid, gives these probabilities again."""
        tiny = torch.finfo(torch.float32).tiny
        plain = probabilities.clamp(min=tiny).log()
        return plain - (1 - probabilities).clamp(min=tiny).log() if self.several else plain

    def given(self, probabilities: Tensor, least: float | None = None) -> Tensor:
        """Which labels of a multi-label classifier reach their thresholds, or ``least``; (..., K) to bool (..., K)."""
        shares = probabilities.detach().cpu().double()  # a threshold may lie between two neighbouring float32
        return shares >= (torch.tensor(self.thresholds, dtype=torch.float64) if least is None else least)

    def to_dict(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "images": self.images,
            "curve": [list(point) for point in self.curve],
            "centre": list(self.centre),
            "least_likeness": self.least_likeness,
            **({"thresholds": list(self.thresholds)} if self.several else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Confidence":
        """Inverse of `to_dict`; what is missing keeps its default, and keys of later versions are ignored."""
        return cls(
            temperature=float(values.get("temperature", 1.0)),
            images=int(values.get("images", 0)),
            curve=tuple(Answering(float(t), int(n), int(w)) for t, n, w in values.get("curve", ())),
            centre=tuple(map(float, values.get("centre", ()))),
            least_likeness=None if (least := values.get("least_likeness")) is None else float(least),
            thresholds=tuple(map(float, values.get("thresholds", ()))),
        )


def likeness(features: Tensor, weight: Tensor, centre: Tensor) -> Tensor:
    """How alike images are to those that a network was trained on, by direction: higher is more alike.

    max_k w_k . (f - m) / |f - m|, for features f (B, C) before the linear layer, its ``weight`` w (K, C) and the mean
    features m, ``centre`` (C,). In a trained network the features of a class gather around the direction of its
    weights, and those of other images do not (as in NCI, Liu and Qin, 2025). Shapes: to (B,).
    """
    away = features - centre
    return (away @ weight.T).amax(dim=1) / away.norm(dim=1).clamp(min=1e-12)


def confidence_of(network: torch.nn.Module) -> Confidence:
    """That of a loaded classifier; the default for a network without a card, such as one in training."""
    card = getattr(network, "card", None)
    return Confidence() if card is None else card.confidence
