"""The trunk of a run: its name, its weights and its preprocessing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..data.preprocess import Preprocess
from ..errors import UserError
from ..trunks.backbone import LOCAL, NAME, Trunk, Weights, as_texts, read_local, trunk_of
from ..trunks.backbone import preprocessing as described
from .config import RunConfig

ConfigT = TypeVar("ConfigT", bound=RunConfig)
TIMM, NONE = "timm", "none"  # values of trunk_weights besides a file or an address


def with_trunk(config: ConfigT) -> ConfigT:
    """The configuration with the network, the trunk and its weights named; unchanged without ``--trunk``.

    A folder becomes the network that it holds. Raises UserError for a trunk that cannot be one, or a second network.
    """
    if config.trunk is None:
        if config.trunk_weights is not None and config.model != NAME:
            raise UserError("--trunk-weights needs --trunk")
        return config
    if config.model not in (None, NAME):
        raise UserError(f"--model {config.model} takes no trunk; leave out --model or --trunk")
    weights = config.trunk_weights
    if config.init == "auto":  # the weights that ship are another network's
        config = replace(config, init=None)
    name = config.trunk
    assert name is not None
    if name.startswith(LOCAL):
        trunk, file = read_local(name)
        weights = weights or str(file.resolve())
        texts = as_texts(trunk) + (config.trunk_args or ())
        return replace(config, model=NAME, trunk=trunk.name, trunk_args=texts or None, trunk_weights=weights)
    trunk = trunk_of(name, config.trunk_args)
    weights = weights or (TIMM if trunk.has_tag and config.init in (None, NONE, "auto") else NONE)
    if weights not in (TIMM, NONE) and Path(weights).exists():
        weights = str(Path(weights).resolve())
    return replace(config, model=NAME, trunk_weights=weights)


def start_weights(config: RunConfig) -> Weights:
    """What `create_model` takes as ``pretrained``."""
    return {TIMM: True, NONE: False, None: False}.get(config.trunk_weights, config.trunk_weights or False)


def trunk_preprocess(config: RunConfig, image_size: int, resize: Any, in_chans: int) -> Preprocess:
    """The trunk's preprocessing, at ``image_size`` px."""
    cfg = trunk_cfg(config)
    mean, std = tuple(cfg["mean"]), tuple(cfg["std"])
    if in_chans == 1:
        mean, std = (round(sum(mean) / len(mean), 4),), (round(sum(std) / len(std), 4),)
    return Preprocess(image_size, resize, mean=mean, std=std, crop_pct=cfg["crop_pct"] if resize == "crop" else 1.0)


def trunk_cfg(config: RunConfig) -> Mapping[str, Any]:
    """timm's description of the trunk's input."""
    assert config.trunk is not None
    return described(Trunk(config.trunk))
