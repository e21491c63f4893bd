"""The augmentation options of a run, read by the data layer."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Augment:
    """Augmentation strengths; the defaults leave images in memory unchanged."""

    crop_padding: int | None = None
    """Small images: pad by this many pixels and crop at random (an eighth of the side by default)."""
    flip: bool | None = None
    """Mirror half of the images; the default depends on the data set (off for digits)."""
    padding: Literal["zeros", "reflect"] = "zeros"
    """What surrounds a padded image: zeros (the mean colour) or its reflection."""
    alternate_flip: bool = False
    """Mirror each image in every second epoch instead of at random."""
    shift: float = 0.0
    """Largest random shift, as a share of the side."""
    rotation: float = 0.0
    """Largest random rotation in degrees."""
    cutout: int = 0
    """Side of a random square set to the mean, in pixels; 0: off."""
    mixup: float = 0.0
    """Beta parameter of mixup; 0: off."""
    cutmix: float = 0.0
    """Beta parameter of cutmix; 0: off. With mixup, each batch uses one of the two."""
    color_jitter: float = 0.0
    """Large images: strength of brightness, contrast and saturation jitter."""
    progressive_by: Literal["resize", "crop"] = "resize"
    """How a progressive run's images are made small: resized, or cropped at random."""
    min_scale: float = 0.08
    """Large images: smallest share of the area that a random crop takes."""

    @property
    def mixes(self) -> bool:
        """Whether targets become distributions over classes."""
        return self.mixup > 0 or self.cutmix > 0
