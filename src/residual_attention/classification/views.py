"""Test-time augmentation: the class probabilities of an image and its mirror image, averaged."""

from typing import Literal

from torch import Tensor, nn

from ..checkpoints import Classifier

Views = Literal["none", "mirror"]
"""``mirror``: the image and its mirror image."""


def class_probabilities(model: Classifier, images: Tensor, views: Views = "none") -> tuple[Tensor, Tensor | None]:
    """Calibrated probabilities (B, K) float32 averaged over the views, and the likeness (B,) of the images as they are
    to the training images (None if unknown)."""
    logits, alike = model.with_likeness(images)
    probabilities = model.probabilities(logits)
    if views == "mirror":
        probabilities = (probabilities + model.probabilities(model(images.flip(-1)))) / 2
    return probabilities, alike


class Mirrored(nn.Module):
    """`class_probabilities` over both views, as a network. Shapes: (B, C, S, S) to (B, K), the logits of the mean."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        probabilities, _ = class_probabilities(self.network, images, "mirror")  # type: ignore[arg-type]
        return self.network.card.confidence.as_logits(probabilities)
