"""``ran train [DATA]``."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..classification.config import LossOptions, TrainConfig
from ..classification.recipes import recipe
from ..data.strengths import Augment
from ..errors import UserError
from ..training.options import LoopOptions, MachineOptions, NetworkOptions, OutputOptions, TransferOptions
from .arguments import as_asked, given_value, parse
from .grouping import groups_of

DESCRIPTION = """Train, evaluate and report: one command from images to a model.

DATA is digits (the default), cifar10, cifar100, imagenet, a folder with one folder of images per class (or train, val
and test folders of such folders), or a list (.csv, .txt) of images with one or several labels each. The run folder
holds the report, the curves, the masks and the checkpoints."""


@dataclass(frozen=True)
class TrainArguments(TrainConfig):
    data: tyro.conf.Positional[str] = "digits"
    """digits | cifar10 | cifar100 | imagenet | a folder of class folders, with or without train/val/test | a list of
    images and labels, .csv or .txt."""


COMMON = (
    "model",
    "trunk",
    "recipe",
    "epochs",
    "time",
    "batch_size",
    "lr",
    "image_size",
    "init",
    "seed",
    "out",
    "device",
)
SECTIONS = {
    "network": (NetworkOptions,),
    "optimisation": (LoopOptions, LossOptions),
    "augmentation": (Augment,),
    "transfer": (TransferOptions,),
    "machine": (MachineOptions,),
    "output": (OutputOptions,),
}
TRUNK_LAYER_DECAY = 0.75  # with the recipe finetune: the stem of a trunk learns slowest
GROUPS = groups_of(TrainArguments, COMMON, SECTIONS, rest="data")


def _values(config: TrainConfig) -> dict:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _parsed(argv: list[str], name: str, data: str) -> TrainArguments:
    """The arguments over the recipe ``name`` for ``data``."""
    default = TrainArguments(**_values(recipe(name, data)))
    return parse(TrainArguments, argv, prog="ran train", description=DESCRIPTION, default=default, groups=GROUPS)


def _first_pass(argv: list[str]) -> TrainArguments:
    """What the arguments ask for, whatever the recipe; the defaults if they are faulty and help is requested."""
    plain = [argument for argument in argv if argument not in ("-h", "--help")]
    try:
        return _parsed(plain, "quick", "digits")
    except UserError:
        if plain == argv:
            raise
        return TrainArguments(**_values(recipe("quick", "digits")))


def _default_recipe(asked: TrainArguments) -> str:
    """*finetune* if weights are to start from: ``--init`` names some, or DATA is a folder and no network is chosen."""
    if asked.init is not None:
        return "quick" if asked.init == "none" else "finetune"
    if asked.trunk is not None:
        return "finetune" if _is_trained(asked) else "quick"
    if asked.model is not None or asked.network_overrides() or not Path(asked.data).exists():
        return "quick"
    from ..data.sources import SOURCES

    return "quick" if asked.data in SOURCES else "finetune"


def _is_trained(asked: TrainArguments) -> bool:
    """Whether a trunk starts from weights: a tag, a file or a folder."""
    if asked.trunk_weights is not None:
        return asked.trunk_weights != "none"
    return asked.trunk is not None and (asked.trunk.startswith("local-dir:") or "." in asked.trunk)


def configuration(argv: list[str]) -> TrainConfig:
    """The recipe's configuration for the given data, with the arguments' overrides.

    In the recipe *finetune* the rate follows the batch size: twice the images per step, twice the rate.
    """
    asked = _first_pass(argv)
    name = asked.recipe if given_value(argv, "--recipe") is not None else _default_recipe(asked)
    config = as_asked(TrainConfig(**_values(_parsed(argv, name, asked.data))), argv)
    if name == "finetune" and given_value(argv, "--lr") is None:
        config = dataclasses.replace(config, lr=config.lr * config.batch_size / recipe(name).batch_size)
    if name == "finetune" and config.trunk is not None and given_value(argv, "--layer-decay") is None:
        config = dataclasses.replace(config, layer_decay=TRUNK_LAYER_DECAY)
    return config


def main(argv: list[str]) -> int:
    config = configuration(argv)
    from ..tasks import train

    summary = train(config)
    if config.json:
        print(json.dumps(summary))
    return 0
