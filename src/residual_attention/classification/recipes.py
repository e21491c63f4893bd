"""Recipes: functions that return a complete configuration. Every field can be overridden by its flag."""

from collections.abc import Callable

from ..errors import UserError
from .config import TrainConfig


def quick(data: str = "digits") -> TrainConfig:
    """A good result quickly: short cosine schedule with warm-up, averaged weights, crop and flip.

    ``ran train cifar10`` or ``ran train FOLDER``. A small data set is repeated within each epoch, so that there are
    at least 800 steps. Digits are also rotated by up to 10 degrees: handwriting varies in slant, and the set is small.
    """
    return TrainConfig(
        data=data,
        recipe="quick",
        epochs=15,
        min_steps=800,
        batch_size=128,
        lr=0.2,
        warmup_epochs=2.0,
        weight_decay=5e-4,
        decay_norm_and_bias=False,
        ema=0.998,
        rotation=10.0 if data == "digits" else 0.0,
    )


def budget(data: str = "digits") -> TrainConfig:
    """The lowest error within ``--time`` on small images: the wide network, the rate falling in a line to 0.

    Images grow from half their side; reflected padding, alternating flip, cutout and averaged weights.
    """
    return TrainConfig(
        data=data,
        recipe="budget",
        epochs=30,
        min_steps=800,
        batch_size=128,
        lr=0.2,
        schedule="linear",
        warmup_epochs=2.0,
        weight_decay=5e-4,
        decay_norm_and_bias=False,
        ema=0.998,
        padding="reflect",
        alternate_flip=True,
        cutout=8,
        progressive=0.5,
        rotation=10.0 if data == "digits" else 0.0,
    )


def paper(data: str = "digits") -> TrainConfig:
    """The paper's schedule as printed (section 4.1 CIFAR; 4.2 ImageNet), in steps of 64 images.

    Departure: the mean is per channel, not per pixel, and images are also divided by the standard deviation.
    """
    imagenet = data == "imagenet"
    return TrainConfig(
        data=data,
        recipe="paper",
        epochs=None,
        steps=530_000 if imagenet else 160_000,
        batch_size=64,
        lr=0.1,
        schedule="multistep",
        milestones=(200_000, 400_000, 500_000) if imagenet else (64_000, 96_000),
        weight_decay=1e-4,
        color_jitter=0.4 if imagenet else 0.0,
    )


def modern(data: str = "digits") -> TrainConfig:
    """Long cosine schedule with strong regularisation: EMA, mixup and cutmix, label smoothing, cutout.

    No weight decay on BN and biases.
    """
    imagenet = data == "imagenet"
    return TrainConfig(
        data=data,
        recipe="modern",
        epochs=100 if imagenet else 200,
        min_steps=800,
        batch_size=256 if imagenet else 128,
        lr=0.1,
        warmup_epochs=5.0,
        weight_decay=5e-4 if not imagenet else 1e-4,
        decay_norm_and_bias=False,
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0 if imagenet else 0.0,
        cutout=0 if imagenet else 8,
        ema=0.9995,
        color_jitter=0.4 if imagenet else 0.0,
    )


def classic(data: str = "digits") -> TrainConfig:
    """Rotation, shift and flip, dropout, L2 on the classifier, learning rate lowered on a plateau.

    The recipe of a TensorFlow 2 re-implementation; ``--optimizer sgd|adam|rmsprop`` repeats its comparison.
    """
    return TrainConfig(
        data=data,
        recipe="classic",
        epochs=100,
        min_steps=800,
        batch_size=64,
        lr=0.1,
        schedule="plateau",
        patience=5,
        min_lr=1e-5,
        early_stop=20,
        weight_decay=0.0,
        classifier_l2=1e-3,
        dropout=0.5,
        crop_padding=0,
        shift=0.125,
        rotation=15.0,
    )


def finetune(data: str = "digits") -> TrainConfig:
    """From trained weights (``--init``) to new classes in a few minutes, for folders of some hundred photos and more.

    A low rate with warm-up, clipped gradients, averaged weights, and at least 180 steps of 32 images.
    Training starts at half the side, where a step takes a fifth of the time.
    """
    return TrainConfig(
        data=data,
        recipe="finetune",
        init="auto",
        epochs=12,
        min_steps=180,
        batch_size=32,
        lr=0.02,
        warmup_epochs=1.0,
        weight_decay=5e-4,
        decay_norm_and_bias=False,
        clip_grad=2.0,
        label_smoothing=0.1,
        ema=0.98,
        rotation=10.0,
        cutout=8,
        progressive=0.5,
    )


RECIPES: dict[str, Callable[[str], TrainConfig]] = {
    "quick": quick,
    "budget": budget,
    "paper": paper,
    "modern": modern,
    "classic": classic,
    "finetune": finetune,
}


def recipe(name: str, data: str = "digits") -> TrainConfig:
    """Return the complete configuration of a named recipe for a data set. Raises UserError for an unknown name."""
    if name not in RECIPES:
        raise UserError(f"no recipe named {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name](data)
