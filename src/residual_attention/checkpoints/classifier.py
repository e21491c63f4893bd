"""The interface of a trained classifier, in PyTorch or exported."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.preprocess import Preprocess
from ..family import ResidualAttentionNetwork
from .card import Card
from .confidence import likeness


class Classifier(nn.Module):
    """What `load` returns: images (B, C, H, W) to logits (B, K), run by PyTorch or by an ONNX engine.

    Attributes:
        classes: the K names, in the order of the logits.
        preprocess: maps a PIL image to the network's input, a (C, H, W) float tensor.
        card: all other metadata of the file.
    """

    classes: list[str]
    preprocess: Preprocess
    card: Card

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, images: Tensor) -> Tensor: ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated class probabilities (B, K) float32 of logits (B, K)."""
        return self.card.confidence.probabilities(logits)

    def with_likeness(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K), and the images' `likeness` (B,) to the training images; None if the card has no centre."""
        return self(images), None

    def describe(self, card: Card) -> None:
        """Take classes and preprocessing from ``card``."""
        assert card.preprocess is not None
        self.classes, self.preprocess, self.card = list(card.classes), card.preprocess, card


class TrainedNetwork(ResidualAttentionNetwork, Classifier):
    """A network of the family with the weights, classes and preprocessing of a checkpoint."""

    def with_likeness(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        return logits_and_likeness(self, images, self.card.confidence.centre)


def logits_and_likeness(
    network: ResidualAttentionNetwork, images: Tensor, centre: tuple[float, ...]
) -> tuple[Tensor, Tensor | None]:
    """Logits (B, K) and `likeness` (B,) in one pass; None without a ``centre`` or a linear classifier."""
    features = network.forward_head(network.forward_features(images), pre_logits=True)
    classifier = network.get_classifier()
    logits = classifier(features)
    if not centre or not isinstance(classifier, nn.Linear):
        return logits, None
    mean = torch.tensor(centre, dtype=torch.float32, device=features.device)
    return logits, likeness(features.float(), classifier.weight.float(), mean)
