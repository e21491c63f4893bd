"""How a cell is run: the same rows at four expenses, which never share a table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..training.config import TrainConfig
from ..training.recipes import recipe
from .declarations import Experiment, Row


@dataclass(frozen=True)
class Protocol:
    """``says``: in a sentence, what every cell's data and schedule are. ``seeds``: how many by default."""

    name: str
    says: str
    seeds: int = 1


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("smoke", "The embedded digits at 16 px, 150 steps of 64: whether it runs and learns, not how well."),
        Protocol("cpu", "10,000 balanced training images (a tenth for validation), 4 epochs; the full test set."),
        Protocol("paper", "The paper's schedule as printed: 160,000 steps of 64 images, SGD.", 5),
        Protocol("modern", "Our best recipe: 200 epochs, cosine, mixup, cutout, label smoothing, averaged weights.", 3),
    )
}
TOO_DEEP = ("attention452_cifar",)  # for the smallest protocol, whose cells are to take about a minute


def _smoke(data: str) -> TrainConfig:
    return replace(recipe("quick", "digits"), epochs=None, steps=150, min_steps=0, batch_size=64, lr=0.1, ema=0.98)


def _cpu(data: str) -> TrainConfig:
    """Batches of 64, so that a short schedule still has some 560 steps."""
    short = {"epochs": 4, "min_steps": 0, "limit_train": 10_000, "batch_size": 64, "lr": 0.1}
    short |= {"warmup_epochs": 1.0, "ema": 0.99}
    return replace(recipe("quick", data), **short)


_BASES: dict[str, Callable[[str], TrainConfig]] = {
    "smoke": _smoke,
    "cpu": _cpu,
    "paper": lambda data: recipe("paper", data),
    "modern": lambda data: recipe("modern", data),
}


def applies(protocol: str, row: Row) -> bool:
    """Whether the protocol has this row at all; *smoke*'s digits stand for CIFAR-10 and -100 once."""
    return not (protocol == "smoke" and (row.model in TOO_DEEP or row.data == "cifar100"))


DEFAULTS = {
    "learning": "residual",
    "mask_activation": "mixed",
    "mask_structure": "encoder_decoder",
    "unit": "preact",
    "optimizer": "sgd",
}


def own_changes(row: Row) -> dict[str, Any]:
    """What differs from the defaults, so that equal settings are one cell whatever table they stand in."""
    return {key: value for key, value in row.changes.items() if DEFAULTS.get(key) != value}


def configure(protocol: str, experiment: Experiment, row: Row, seed: int, **given: Any) -> TrainConfig:
    """The complete configuration of a cell; ``given`` are fields of the machine and of where the data lie.

    The source's own recipe replaces *paper*'s and *modern*'s where the experiment asks for it.
    """
    base = _BASES[protocol](row.data)
    if experiment.recipe is not None and protocol in ("paper", "modern"):
        base = recipe(experiment.recipe, row.data)
    data = "digits" if protocol == "smoke" else row.data
    changes = own_changes(row)
    if protocol == "smoke" and "lr" in changes:
        changes["lr"] = min(float(changes["lr"]), base.lr)
    return replace(base, data=data, model=row.model, seed=seed, **changes, **given)
