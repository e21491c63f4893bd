"""How a cell is run: the same rows at five budgets, which never share a table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..classification.config import TrainConfig
from ..classification.recipes import recipe
from .declarations import Experiment, Row


@dataclass(frozen=True)
class Protocol:
    """``description``: the data and schedule of every cell, in one sentence. ``seeds``: the default number of seeds."""

    name: str
    description: str
    seeds: int = 1


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("smoke", "The embedded digits at 16 px, 150 steps of 64: a check that it runs and learns."),
        Protocol(
            "cpu",
            "10,000 balanced training images and 5,000 others for validation, 4 epochs (624 steps of 64); "
            "the full test set.",
        ),
        Protocol(
            "mini",
            "The complete CIFAR at 16 px: 45,000 training images and 5,000 others for validation, 12 epochs "
            "(4,212 steps of 128); the full test set.",
            3,
        ),
        Protocol("paper", "The paper's schedule as printed: 160,000 steps of 64 images, SGD.", 5),
        Protocol("modern", "Our best recipe: 200 epochs, cosine, mixup, cutout, label smoothing, averaged weights.", 3),
    )
}


def _smoke(data: str) -> TrainConfig:
    return replace(recipe("quick", "digits"), epochs=None, steps=150, min_steps=0, batch_size=64, lr=0.1, ema=0.98)


def _cpu(data: str) -> TrainConfig:
    """Batches of 64, so that even a short schedule has 624 steps."""
    short = {"epochs": 4, "min_steps": 0, "limit_train": 10_000, "batch_size": 64, "lr": 0.1}
    short |= {"warmup_epochs": 1.0, "ema": 0.99}
    return replace(recipe("quick", data), **short)


def _mini(data: str) -> TrainConfig:
    """A quarter of the pixels, so that all images fit into minutes. The deepest masks still reach 2x2."""
    short = {"image_size": 16, "epochs": 12, "min_steps": 0, "batch_size": 128, "lr": 0.2, "schedule": "linear"}
    short |= {"warmup_epochs": 1.0, "ema": 0.998, "crop_padding": 2, "padding": "reflect", "cutout": 4}
    return replace(recipe("quick", data), **short)


_BASES: dict[str, Callable[[str], TrainConfig]] = {
    "smoke": _smoke,
    "cpu": _cpu,
    "mini": _mini,
    "paper": lambda data: recipe("paper", data),
    "modern": lambda data: recipe("modern", data),
}


def applies(protocol: str, row: Row) -> bool:
    """Whether the protocol includes this row.

    In *smoke*, the digits stand in once for CIFAR-10 and CIFAR-100; ImageNet has no small stand-in. The deepest network
    takes hours a cell in *mini*.
    """
    if row.data == "imagenet":
        return protocol in ("paper", "modern")
    if protocol == "mini":
        return not row.deep
    return not (protocol == "smoke" and (row.deep or row.data == "cifar100"))


def recipe_of(protocol: str, experiment: Experiment) -> str | None:
    """The source's recipe if it replaces that of the protocol *paper*; else None."""
    return experiment.recipe if protocol == "paper" else None


def describe(protocol: str, experiment: Experiment) -> str:
    """The data and schedule of the experiment's cells under the protocol, for a reader."""
    if (own := recipe_of(protocol, experiment)) is not None:
        longest = recipe(own).epochs
        return f"The source's recipe in place of the paper's: `--recipe {own}`, at most {longest} epochs."
    if experiment.recipe is not None:
        own_recipe = f"The source's own recipe, `{experiment.recipe}`, is the protocol *paper*'s."
        return f"{PROTOCOLS[protocol].description} {own_recipe}"
    if all(row.data == "imagenet" for row in experiment.rows):
        return {
            "paper": "The paper's schedule as printed: 530,000 steps of 64 images, SGD.",
            "modern": "Our best recipe: 100 epochs, cosine, mixup and cutmix, label smoothing, averaged weights.",
        }.get(protocol, PROTOCOLS[protocol].description)
    return PROTOCOLS[protocol].description


DEFAULTS = {
    "learning": "residual",
    "mask_activation": "mixed",
    "mask_structure": "encoder_decoder",
    "unit": "preact",
    "optimizer": "sgd",
}


def changes_from_defaults(row: Row) -> dict[str, Any]:
    """The row's changes from the defaults, so that equal settings are one cell, whatever the table."""
    return {key: value for key, value in row.changes.items() if DEFAULTS.get(key) != value}


def configure(protocol: str, experiment: Experiment, row: Row, seed: int, **given: Any) -> TrainConfig:
    """The complete configuration of a cell; ``given`` are the fields for the machine and the location of the data.

    The source's recipe replaces that of *paper* if the experiment asks for it.
    """
    own = recipe_of(protocol, experiment)
    base = _BASES[protocol](row.data) if own is None else recipe(own, row.data)
    data = "digits" if protocol == "smoke" else row.data
    return replace(base, data=data, model=row.model, seed=seed, **changes_from_defaults(row), **given)
