"""The complete configuration of a run: one frozen dataclass for CLI flags, ``config.yaml`` and checkpoints."""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from .options import MachineOptions, NetworkOptions

RecipeName = Literal["quick", "paper", "modern", "classic"]
Schedule = Literal["cosine", "multistep", "plateau", "constant"]
Resize = Literal["crop", "squash", "letterbox"]


@dataclass(frozen=True)
class RunOptions:
    """Data, schedule, optimizer, regularisation and augmentation."""

    data: str = "digits"
    """digits | cifar10 | cifar100 | imagenet | a folder of class folders, with or without train/val/test."""
    data_dir: Path | None = None
    """Where a named data set lies (torchvision's layout or class folders)."""
    model: str | None = None
    """Network, see `ran models`; by default attention56_cifar up to 64 px and attention56 above."""
    recipe: RecipeName = "quick"
    """Set of defaults: quick | paper | modern | classic; any other flag overrides its field."""
    out: Path | None = None
    """Run folder; runs/<date-time>_<data>_<model> when left out."""
    init: str | None = None
    """Start from the weights of this MODEL; a classifier of other classes starts fresh."""
    seed: int = 0
    """All randomness is a function of (seed, epoch, step, sample)."""

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
    workers: int | None = None
    """Processes that decode large images; chosen from the cores by default."""

    # Schedule
    epochs: int | None = 15
    """Passes over the training images."""
    steps: int | None = None
    """Optimizer steps; overrides epochs."""
    min_steps: int = 0
    """Read the data several times an epoch until the run has at least this many steps (small data sets)."""
    repeats: int | None = None
    """Times that an epoch reads the training images; by default as often as min-steps asks for."""
    batch_size: int = 128
    """Images of one optimizer step, over all processes and accumulation."""
    accumulate: int = 1
    """Split each batch in this many parts, to save memory."""
    lr: float = 0.1
    """Peak learning rate, for the batch size given."""
    schedule: Schedule = "cosine"
    """cosine | multistep | plateau | constant."""
    warmup_epochs: float = 0.0
    """Linear warm-up from lr/100, in epochs; fractions allowed."""
    min_lr: float = 0.0
    """Where cosine and plateau end."""
    milestones: tuple[int, ...] = ()
    """Steps at which multistep multiplies the rate by lr_decay."""
    lr_decay: float = 0.1
    """Factor of multistep and plateau."""
    patience: int = 5
    """Epochs without a better validation loss before plateau lowers the rate."""
    early_stop: int = 0
    """Stop after this many epochs without a better validation error; 0: never."""

    # Optimizer
    optimizer: str = "sgd"
    """Any timm optimizer: sgd (Nesterov), momentum, adam, adamw, rmsprop, lamb, ..."""
    momentum: float = 0.9
    """Momentum of sgd, momentum and rmsprop."""
    weight_decay: float = 1e-4
    """L2 weight decay."""
    decay_norm_and_bias: bool = True
    """Decay BN weights and biases too, as the paper does."""
    classifier_l2: float = 0.0
    """Extra L2 penalty on the classifier's weight."""
    clip_grad: float | None = None
    """Largest norm of the gradient."""

    # Regularisation
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    mixup: float = 0.0
    """Beta parameter of mixup; 0: off."""
    cutmix: float = 0.0
    """Beta parameter of cutmix; 0: off. With mixup, each batch takes one of the two."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and saved as best; 0: off."""
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


@dataclass(frozen=True)
class TrainConfig(MachineOptions, NetworkOptions, RunOptions):
    """Everything that decides a run. ``None`` means: chosen from the data or the machine, and printed."""

    def __post_init__(self) -> None:
        _validate(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
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


_RANGES: dict[str, tuple[float, float]] = {
    "val_fraction": (0.0, 0.9),
    "test_fraction": (0.0, 0.9),
    "label_noise": (0.0, 1.0),
    "lr_decay": (0.0, 1.0),
    "momentum": (0.0, 1.0),
    "label_smoothing": (0.0, 1.0),
    "ema": (0.0, 1.0),
    "shift": (0.0, 1.0),
    "rotation": (0.0, 180.0),
    "min_scale": (0.0, 1.0),
    "color_jitter": (0.0, 1.0),
}
_AT_LEAST: dict[str, float] = {
    "image_size": 1,
    "limit_train": 1,
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
    "classifier_l2": 0,
    "mixup": 0,
    "cutmix": 0,
    "crop_padding": 0,
    "cutout": 0,
    "checkpoint_steps": 0,
    "seed": 0,
}


def _validate(config: TrainConfig) -> None:
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {value}")
    for name, low in _AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and not value >= low:
            raise ValueError(f"{name} must be at least {low:g}, not {value}")
    if not config.lr > 0:
        raise ValueError(f"lr must be above 0, not {config.lr}")
    if config.clip_grad is not None and not config.clip_grad > 0:
        raise ValueError(f"clip_grad must be above 0, not {config.clip_grad}")
    if not 0.1 <= config.progressive <= 1.0:
        raise ValueError(f"progressive must lie between 0.1 and 1, not {config.progressive}")
    if config.in_chans not in (None, 1, 3):
        raise ValueError(f"in_chans must be 1 or 3, not {config.in_chans}")
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
