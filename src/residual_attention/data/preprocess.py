"""From a decoded image to the network's input; stored with every model, used in train, eval and predict."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields
from types import UnionType
from typing import Any, NamedTuple, TypeGuard, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import UserError
from .images import as_eight_bits, as_image
from .request import MAX_IMAGE_SIZE, Resize
from .transfer import to_device

MAX_SCALED_PIXELS = MAX_IMAGE_SIZE**2  # px
STD_RANGE = (1e-6, 1e6)  # beyond it, float32 inputs overflow or lose their digits
RESIZES = get_args(Resize)
CROP_MODES: dict[Resize, str] = {"crop": "center", "squash": "squash", "letterbox": "border"}  # ours, timm's


def _is_number(value: object, kind: type | UnionType = int | float) -> TypeGuard[float]:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_constants(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise UserError unless these are the constants of 1 or 3 channels: finite, and every std above 0."""
    for name, values in (("mean", mean), ("std", std)):
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) not in (1, 3):
            raise UserError(f"{name} must be 1 or 3 numbers, one per channel, not {values!r}")
        if not all(_is_number(value) and math.isfinite(value) for value in values):
            raise UserError(f"{name} must be finite numbers, not {list(values)}")
    if len(mean) != len(std):
        raise UserError(f"mean and std need one value per channel each, not {len(mean)} and {len(std)}")
    low, high = STD_RANGE
    if not all(low <= value <= high for value in std) or not all(abs(value) <= high for value in mean):
        raise UserError(f"std must be between {low:g} and {high:g}, and mean at most that: {list(std)}, {list(mean)}")


class Geometry(NamedTuple):
    """Maps the network's input to the original image: ``original = input * scale + offset``, per axis, in px."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float


@dataclass(frozen=True)
class Preprocess:
    """Resize to a square of ``image_size`` px, then apply ``(value / 255 - mean) / std`` per channel.

    ``resize``: *crop* scales the short side to ``image_size / crop_pct`` and crops the centre; *squash* ignores
    the aspect ratio; *letterbox* scales the long side and pads with the mean colour. All use Pillow's
    antialiased bilinear filter.
    """

    image_size: int
    resize: Resize = "crop"
    _: KW_ONLY
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise UserError(f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}")
        if not _is_number(self.image_size, int) or not 1 <= self.image_size <= MAX_IMAGE_SIZE:
            raise UserError(f"image_size must be an integer from 1 to {MAX_IMAGE_SIZE} px, not {self.image_size!r}")
        if not _is_number(self.crop_pct) or not 0 < self.crop_pct <= 1:
            raise UserError(f"crop_pct must be above 0 and at most 1, not {self.crop_pct!r}")
        check_constants(self.mean, self.std)

    @property
    def in_chans(self) -> int:
        return len(self.mean)

    def _scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """The size of the scaled image, before cropping or padding."""
        size = self.image_size
        if self.resize == "squash":
            return size, size
        if self.resize == "crop":
            short = round(size / self.crop_pct)
            factor = short / min(width, height)
            return max(short, round(width * factor)), max(short, round(height * factor))
        factor = size / max(width, height)
        return max(1, min(size, round(width * factor))), max(1, min(size, round(height * factor)))

    def geometry(self, width: int, height: int) -> Geometry:
        """The mapping from input pixels to an original of ``width`` x ``height`` px."""
        scaled_width, scaled_height = self._scaled_size(width, height)
        left, top = (scaled_width - self.image_size) // 2, (scaled_height - self.image_size) // 2
        scale_x, scale_y = width / scaled_width, height / scaled_height
        return Geometry(scale_x, scale_y, left * scale_x, top * scale_y)

    def square(self, image: Image.Image) -> Image.Image:
        """Convert the image to a square of ``image_size`` px, in mode RGB or L."""
        mode = "L" if self.in_chans == 1 else "RGB"
        image = as_eight_bits(image, mode)
        size = self.image_size
        scaled = self._scaled_size(*image.size)
        if scaled[0] * scaled[1] > MAX_SCALED_PIXELS:  # only with crop, for extremely elongated images
            return self._crop_elongated(image)
        if scaled != image.size:
            image = image.resize(scaled, Image.Resampling.BILINEAR)
        if image.size == (size, size):
            return image
        left, top = (image.width - size) // 2, (image.height - size) // 2
        if self.resize == "crop":
            return image.crop((left, top, left + size, top + size))
        colour = tuple(round(255 * m) for m in self.mean)
        canvas = Image.new(mode, (size, size), colour[0] if self.in_chans == 1 else colour)
        canvas.paste(image, (-left, -top))
        return canvas

    def _crop_elongated(self, image: Image.Image) -> Image.Image:
        """Crop a very elongated image before scaling, since the scaled image would not fit in memory."""
        place, size = self.geometry(*image.size), self.image_size
        box = (
            place.offset_x,
            place.offset_y,
            place.offset_x + size * place.scale_x,
            place.offset_y + size * place.scale_y,
        )
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)

    def to_uint8(self, image: Image.Image) -> Tensor:
        """(C, image_size, image_size) uint8."""
        values = np.array(self.square(image), dtype=np.uint8)
        return torch.from_numpy(values).view(self.image_size, self.image_size, self.in_chans).permute(2, 0, 1)

    def _per_channel(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return to_device(torch.tensor(values, dtype=torch.float32), like.device).view(-1, 1, 1)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 (..., C, H, W) to float32 of the same shape, mean 0 and standard deviation 1 over the training data."""
        mean, std = self._per_channel(self.mean, images), self._per_channel(self.std, images)
        return images.to(torch.float32, copy=True).sub_(255.0 * mean).div_(255.0 * std)  # in place: half the time

    def denormalize(self, images: Tensor) -> Tensor:
        """Inverse of `normalize`, rounded and clipped to uint8."""
        mean, std = self._per_channel(self.mean, images), self._per_channel(self.std, images)
        return ((images.float() * std + mean) * 255.0).round().clamp(0, 255).to(torch.uint8)

    def __call__(self, image: Image.Image | np.ndarray) -> Tensor:
        """Convert an image to the network's input, a (C, image_size, image_size) float tensor.

        ``image``: a PIL image, or a uint8 array (H, W) or (H, W, 1, 3 or 4) in RGB order.

        Raises UserError for anything else.
        """
        return self.normalize(self.to_uint8(as_image(image)))

    def as_timm(self) -> dict[str, Any]:
        """These settings as timm's ``pretrained_cfg`` has them."""
        return {
            "input_size": (self.in_chans, self.image_size, self.image_size),
            "mean": self.mean,
            "std": self.std,
            "crop_pct": self.crop_pct if self.resize == "crop" else 1.0,  # our other resize modes ignore it
            "crop_mode": CROP_MODES[self.resize],
            "interpolation": "bilinear",
        }

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """Inverse of `to_dict`. Raises UserError for an unknown key."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise UserError(f"unknown preprocessing {', '.join(sorted(unknown))}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)
