"""From uploaded bytes to an answer, independent of the web."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..attention.attend import maps_on
from ..attention.masks import masks_are_signed
from ..attention.originals import displayed
from ..attention.overlay import heat
from ..attention.readings import look
from ..checkpoints import Classifier
from ..checkpoints.exported import ExportedClassifier
from ..classification.predict import Prediction, answers
from ..data.images import read_image
from ..devices import device_of

DRAWN_SIDE = 256  # px, least long side of a drawn mask


class _Named(io.BytesIO):
    """Uploaded bytes; ``name`` appears in errors."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


@dataclass(frozen=True)
class Answering:
    """``fast`` classifies; ``looking`` draws the masks: the network itself, or an export that has them."""

    fast: Classifier
    looking: Classifier
    top_k: int = 5
    least: float | None = None

    def read(self, content: bytes, name: str, masks: bool) -> tuple[Tensor, Image.Image | None]:
        """The network's input (C, S, S) and, for ``masks``, the image at the size to draw them at; not the whole image.

        Raises ImageError in one line.
        """
        image = read_image(_Named(content, name), self.fast.preprocess.in_chans)
        return self.fast.preprocess(image), displayed(image, DRAWN_SIDE).convert("RGB") if masks else None

    @torch.inference_mode()
    def classify(self, images: Tensor) -> list[Prediction]:
        """(B, C, S, S) to B predictions without a path."""
        logits, alike = self.fast.with_likeness(images.to(device_of(self.fast)))
        probabilities = self.fast.probabilities(logits)
        return answers(self.fast, probabilities, alike, paths=[""] * len(images), top_k=self.top_k, least=self.least)

    def masks(self, shown: Image.Image, square: Tensor) -> dict[str, str]:
        """The mean of each module's mask drawn over an image of `read`, as base64 of a PNG file, by module name.

        Raises UserError for an export without masks.
        """
        found = look(self.looking, square[None].to(device_of(self.looking)), gradients=False)
        signed, picture = masks_are_signed(self.looking), np.asarray(shown)
        return {
            name: _png(heat(picture, values, signed=signed))
            for name, values in maps_on(self.looking, shown, found, "mean").items()
        }

    @property
    def draws(self) -> bool:
        """Whether `masks` can be asked for."""
        return not isinstance(self.looking, ExportedClassifier) or self.looking.has_masks


def _png(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def named(names: Sequence[str | None]) -> list[str]:
    """What to call each upload: its file name without folders, or its number."""
    plain = [(name or "").replace("\\", "/").rpartition("/")[2] for name in names]
    return [name[:100] or f"image {number}" for number, name in enumerate(plain, 1)]
