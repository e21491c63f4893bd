"""The complete configuration of a classification run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ..data.request import MAX_IMAGE_SIZE, Resize, SplitRule
from ..data.strengths import Augment
from ..errors import UserError
from ..training.config import RunConfig, check_between, check_least

MAX_FOLDS = 100

RecipeName = Literal["quick", "budget", "paper", "modern", "classic", "finetune"]


@dataclass(frozen=True)
class LossOptions:
    """Terms and weights of the loss."""

    classifier_l2: float = 0.0
    """Extra L2 penalty on the classifier's weight."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    class_weights: bool = False
    """Weight the loss by inverse class frequency; with multi-label data, weight images with and without a label
    equally."""
    balanced_sampling: bool = False
    """Sample every class equally often (not for multi-label data)."""
    guide: Path | None = None
    """Where the objects are, for some or all training images: boxes.json (image path to boxes), a VOC, COCO or YOLO
    folder, or a folder of mask PNGs. The masks learn to find the evidence for the class there."""
    guide_weight: float = 1.0
    """Weight of the guide's term in the loss, the share of the evidence that lies outside."""


@dataclass(frozen=True)
class TrainConfig(RunConfig, Augment, LossOptions):
    """All settings of a classification run."""

    data: str = "digits"
    """digits | cifar10 | cifar100 | imagenet | a folder of class folders, with or without train/val/test."""
    data_dir: Path | None = None
    """Folder of a named data set (torchvision's layout or class folders)."""
    model: str | None = None
    """Network (`ran models` lists them); by default that of the initial weights, or else attention56_cifar up to 64 px
    (attention56_cifar_wide with the recipe budget) and attention56 above."""
    recipe: RecipeName = "quick"
    """Set of defaults, which other flags override: quick | budget | paper | modern | classic | finetune, the default
    when training starts from trained weights."""

    # Data
    image_size: int | None = None
    """Side of the square input in pixels; by default it suits the data and the initial weights."""
    resize: Resize = "crop"
    """How images are made square: crop (resize the short side, crop the centre), squash (ignore the aspect ratio),
    letterbox (pad)."""
    in_chans: int | None = None
    """Image channels, 1 or 3; inferred from the data by default."""
    val_fraction: float = 0.1
    """Share of the training images held out for validation when the data has no validation split."""
    test_fraction: float = 0.1
    """Share held out for testing when a folder has no splits at all."""
    split_rule: SplitRule = "content"
    """How missing splits are made: content (an image's split depends on its content and the seed, so adding images
    moves no others) or shuffle (as earlier runs did, and always for named data sets)."""
    folds: int | None = None
    """Cross-validation with this many runs, each tested on a different part of the training and validation images; an
    existing test split stays untouched."""
    fold: int | None = None
    """Train only this fold of --folds, counted from 1, as a job of its own."""
    label_noise: float = 0.0
    """Share of training labels replaced by another class, drawn uniformly (symmetric noise)."""
    limit_train: int | None = None
    """Use only this many training images, class-balanced."""
    skip_bad_images: bool = True
    """Skip and count unreadable training images; evaluation always stops at one."""

    progressive: float = 1.0
    """Start training at this share of the image side, and grow to the full side over the first 60 % of epochs; 1:
    off."""
    progressive_multiple: int = 8
    """A progressive run's image sides are multiples of this many pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _validate_classification(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As for any run; a configuration without ``split_rule`` is older than it."""
        return super().from_dict({"split_rule": "shuffle", **values})


def _validate_classification(config: TrainConfig) -> None:
    shares = ("val_fraction", "test_fraction")
    check_between(config, dict.fromkeys(shares, (0, 0.9)))
    unit = ("label_noise", "label_smoothing", "shift", "min_scale", "color_jitter")
    check_between(config, {**dict.fromkeys(unit, (0, 1)), "rotation": (0, 180), "progressive": (0.1, 1)})
    least = ("classifier_l2", "guide_weight", "mixup", "cutmix", "crop_padding", "cutout")
    check_least(config, {**dict.fromkeys(least, 0), "limit_train": 1, "progressive_multiple": 1})
    if config.fold is not None and (config.folds is None or not 1 <= config.fold <= config.folds):
        raise UserError(f"fold must be between 1 and --folds, not {config.fold}")
    if config.folds is not None:
        check_between(config, {"folds": (2, MAX_FOLDS)})
    if config.guide is not None and config.grad_checkpointing:
        raise UserError("guide differentiates twice, which grad_checkpointing does not allow; drop one")
    if config.image_size is not None:
        check_between(config, {"image_size": (1, MAX_IMAGE_SIZE)})
    if config.in_chans not in (None, 1, 3):
        raise UserError(f"in_chans must be 1 or 3, not {config.in_chans}")
