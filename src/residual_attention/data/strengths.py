"""How strongly training images are augmented: options that a configuration holds and the data layer reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augment:
    """Strengths of the augmentation; the defaults leave images in memory as they are."""

    crop_padding: int | None = None
    """Small images: pad by this many pixels and crop at random (an eighth of the side by default)."""
    flip: bool | None = None
    """Mirror half of the images; the data set's own default (digits: no)."""
    shift: float = 0.0
    """Largest random shift, as a share of the side."""
    rotation: float = 0.0
    """Largest random rotation in degrees."""
    cutout: int = 0
    """Side of a random square set to the mean, in pixels; 0: off."""
    mixup: float = 0.0
    """Beta parameter of mixup; 0: off."""
    cutmix: float = 0.0
    """Beta parameter of cutmix; 0: off. With mixup, each batch takes one of the two."""
    color_jitter: float = 0.0
    """Large images: strength of brightness, contrast and saturation jitter."""
    min_scale: float = 0.08
    """Large images: smallest share of the area that a random crop takes."""

    @property
    def mixes(self) -> bool:
        """Whether targets become distributions over classes."""
        return self.mixup > 0 or self.cutmix > 0
