"""The interface of a trained classifier, in PyTorch or exported."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..data.preprocess import Preprocess
from ..family import ResidualAttentionNetwork
from ..trunks.network import TrunkNetwork
from .card import Card


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

    def describe(self, card: Card) -> None:
        """Take classes and preprocessing from ``card``."""
        assert card.preprocess is not None
        self.classes, self.preprocess, self.card = list(card.classes), card.preprocess, card


class TrainedNetwork(ResidualAttentionNetwork, Classifier):
    """A network of the family with the weights, classes and preprocessing of a checkpoint."""


class TrainedTrunk(TrunkNetwork, Classifier):
    """Attention on a trunk of timm's, with the weights, classes and preprocessing of a checkpoint."""


TRAINED: dict[type[nn.Module], type[Classifier]] = {
    ResidualAttentionNetwork: TrainedNetwork,
    TrunkNetwork: TrainedTrunk,
}
