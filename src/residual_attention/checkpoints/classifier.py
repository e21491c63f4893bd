"""The interface of a trained classifier, in PyTorch or exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.images import Picture, read_image
from ..data.preprocess import Preprocess
from ..devices import device_of
from ..family import ResidualAttentionNetwork
from ..family.staged import StagedNetwork
from ..trunks.network import TrunkNetwork
from .card import Card
from .confidence import likeness


class Classifier(nn.Module):
    """What `load` returns: images (B, C, H, W) to logits (B, K), run by PyTorch or by an ONNX engine.

    Attributes:
        classes: the K names, in the order of the logits.
        preprocess: maps a PIL image, or a uint8 array (H, W, 3), to the network's input, a (C, H, W) float tensor.
        card: all other metadata of the file.
        pretrained_cfg: the preprocessing as timm describes it, for `timm.data.resolve_model_data_config`.
    """

    classes: list[str]
    preprocess: Preprocess
    card: Card
    pretrained_cfg: dict[str, Any]

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, images: Tensor, /) -> Tensor: ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated class probabilities (B, K) float32 of logits (B, K)."""
        return self.card.confidence.probabilities(logits)

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which a multi-label classifier gives each label; empty with one class per image."""
        return dict(zip(self.classes, self.card.confidence.thresholds, strict=False))

    def with_likeness(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K), and the images' `likeness` (B,) to the training images; None if the card has no centre."""
        return self(images), None

    def describe(self, card: Card) -> None:
        """Take classes and preprocessing from ``card``."""
        assert card.preprocess is not None
        self.classes, self.preprocess, self.card = list(card.classes), card.preprocess, card
        self.pretrained_cfg = {
            **card.preprocess.as_timm(),
            "num_classes": len(card.classes),
            "label_names": tuple(card.classes),
        }

    @torch.inference_mode()
    def predict(self, images: Picture | Sequence[Picture], top_k: int = 5) -> list[list[tuple[str, float]]]:
        """The ``top_k`` most probable classes of each image, with their probabilities, the most probable first.

        Args:
            images: PIL images, uint8 arrays (H, W, 3) or paths; one or several.

        Raises:
            ImageError: a file that is not an image.
        """
        several = [images] if isinstance(images, Picture) else list(images)
        if not several:
            return []
        read = (read_image(Path(i), self.preprocess.in_chans) if isinstance(i, str | Path) else i for i in several)
        batch = torch.stack([self.preprocess(image) for image in read])
        best = self.probabilities(self(batch.to(device_of(self)))).cpu().topk(min(top_k, len(self.classes)), dim=1)
        found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [[(self.classes[i], share) for i, share in zip(index, shares, strict=True)] for shares, index in found]


class Trained(Classifier):
    """A trained network in PyTorch. Its class names are those of its classifier: another one has none."""

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        super().reset_classifier(num_classes, global_pool)  # type: ignore[misc]
        self.classes = []
        self.pretrained_cfg = {**self.pretrained_cfg, "num_classes": num_classes}
        self.pretrained_cfg.pop("label_names", None)

    def with_likeness(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        return logits_and_likeness(self, images, self.card.confidence.centre)  # type: ignore[arg-type]


class TrainedNetwork(Trained, ResidualAttentionNetwork):
    """A network of the family with the weights, classes and preprocessing of a checkpoint."""


class TrainedTrunk(Trained, TrunkNetwork):
    """Attention on a trunk from timm, with the weights, classes and preprocessing of a checkpoint."""


TRAINED: dict[type[nn.Module], type[TrainedNetwork] | type[TrainedTrunk]] = {
    ResidualAttentionNetwork: TrainedNetwork,
    TrunkNetwork: TrainedTrunk,
}


def logits_and_likeness(
    network: StagedNetwork, images: Tensor, centre: tuple[float, ...]
) -> tuple[Tensor, Tensor | None]:
    """Logits (B, K) and `likeness` (B,) in one pass; None without a ``centre`` or a linear classifier."""
    features = network.forward_head(network.forward_features(images), pre_logits=True)
    classifier = network.get_classifier()
    logits = classifier(features)
    if not centre or not isinstance(classifier, nn.Linear):
        return logits, None
    mean = torch.tensor(centre, dtype=torch.float32, device=features.device)
    return logits, likeness(features.float(), classifier.weight.float(), mean)
