"""The complete configuration of a run: one frozen dataclass for CLI flags, ``config.yaml`` and checkpoints."""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

import yaml

from .options import CommonOptions, LoopOptions, MachineOptions, NetworkOptions

RecipeName = Literal["quick", "paper", "modern", "classic"]
Resize = Literal["crop", "squash", "letterbox"]


@dataclass(frozen=True)
class RunConfig(MachineOptions, NetworkOptions, LoopOptions, CommonOptions):
    """What decides any run, whatever is learned. ``None`` means: chosen from the data or the machine, and printed."""

    def __post_init__(self) -> None:
        validate_run(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`. Raises ValueError for an unknown key, with the nearest known one."""
        types = get_type_hints(cls)
        for key in values:
            if key not in types:
                close = difflib.get_close_matches(key, list(types), n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"unknown configuration key {key!r}{hint}")
        return cls(**{k: _typed(k, v) for k, v in values.items()})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Everything that decides the training of a classifier."""

    data: str = "digits"
    """digits | cifar10 | cifar100 | imagenet | a folder of class folders, with or without train/val/test."""
    data_dir: Path | None = None
    """Where a named data set lies (torchvision's layout or class folders)."""
    model: str | None = None
    """Network, see `ran models`; by default attention56_cifar up to 64 px and attention56 above."""
    recipe: RecipeName = "quick"
    """Set of defaults: quick | paper | modern | classic; any other flag overrides its field."""

    # Data
    image_size: int | None = None
    """Side of the square input in pixels; the data set's own by default (folders: 224)."""
    resize: Resize = "crop"
    """How an image becomes square: crop (short side, centre), squash (aspect ignored), letterbox (padded)."""
    in_chans: int | None = None
    """Image channels, 1 or 3; found from the data by default."""
    val_fraction: float = 0.1
    """Share of the training images held out for validation when the data has no validation split."""
    test_fraction: float = 0.1
    """Share held out for the test when a folder has no splits at all."""
    label_noise: float = 0.0
    """Share of training labels replaced by another class, drawn uniformly (symmetric noise)."""
    limit_train: int | None = None
    """Use only this many training images, class-balanced."""
    skip_bad_images: bool = True
    """Leave unreadable training images out and count them; evaluation always stops at one."""

    # Regularisation
    classifier_l2: float = 0.0
    """Extra L2 penalty on the classifier's weight."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    mixup: float = 0.0
    """Beta parameter of mixup; 0: off."""
    cutmix: float = 0.0
    """Beta parameter of cutmix; 0: off. With mixup, each batch takes one of the two."""
    class_weights: bool = False
    """Weigh the loss by inverse class frequency."""
    balanced_sampling: bool = False
    """Draw every class equally often."""

    # Augmentation
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
    color_jitter: float = 0.0
    """Large images: strength of brightness, contrast and saturation jitter."""
    min_scale: float = 0.08
    """Large images: smallest share of the area that a random crop takes."""
    progressive: float = 1.0
    """Share of the side at which training starts, growing to full over the first 60 % of epochs; 1: off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _validate_classification(self)


_PATHS = ("data_dir", "out")
_TUPLES = ("milestones", "modules", "widths", "mask_depths")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _typed(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in _PATHS:
        return Path(value)
    return tuple(value) if key in _TUPLES else value


def check_between(config: RunConfig, ranges: dict[str, tuple[float, float]]) -> None:
    """Raise ValueError for a field outside its closed range."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {value}")


def check_least(config: RunConfig, least: dict[str, float]) -> None:
    """Raise ValueError for a field below its smallest value; None passes."""
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and not value >= low:
            raise ValueError(f"{name} must be at least {low:g}, not {value}")


def validate_run(config: RunConfig) -> None:
    """Raise ValueError for what no run can have."""
    check_between(config, {"lr_decay": (0, 1), "momentum": (0, 1), "ema": (0, 1)})
    check_least(
        config,
        {
            "workers": 0,
            "epochs": 1,
            "steps": 1,
            "min_steps": 0,
            "repeats": 1,
            "batch_size": 1,
            "accumulate": 1,
            "warmup_epochs": 0,
            "min_lr": 0,
            "patience": 1,
            "early_stop": 0,
            "weight_decay": 0,
            "checkpoint_steps": 0,
            "seed": 0,
        },
    )
    if not config.lr > 0:
        raise ValueError(f"lr must be above 0, not {config.lr}")
    if config.clip_grad is not None and not config.clip_grad > 0:
        raise ValueError(f"clip_grad must be above 0, not {config.clip_grad}")
    if config.epochs is None and config.steps is None:
        raise ValueError("give epochs or steps")
    if config.batch_size % config.accumulate:
        raise ValueError(f"batch_size {config.batch_size} does not divide by accumulate {config.accumulate}")
    if config.schedule == "multistep" and not config.milestones:
        raise ValueError("schedule multistep needs milestones, in steps")
    if config.compile == "on" and config.grad_checkpointing:
        raise ValueError("compile on and grad_checkpointing do not go together; leave one out")
    if config.ema == 1.0:
        raise ValueError("ema must be below 1")


def _validate_classification(config: TrainConfig) -> None:
    shares = ("val_fraction", "test_fraction")
    check_between(config, dict.fromkeys(shares, (0, 0.9)))
    unit = ("label_noise", "label_smoothing", "shift", "min_scale", "color_jitter")
    check_between(config, {**dict.fromkeys(unit, (0, 1)), "rotation": (0, 180), "progressive": (0.1, 1)})
    least = ("classifier_l2", "mixup", "cutmix", "crop_padding", "cutout")
    check_least(config, {**dict.fromkeys(least, 0), "image_size": 1, "limit_train": 1})
    if config.in_chans not in (None, 1, 3):
        raise ValueError(f"in_chans must be 1 or 3, not {config.in_chans}")
