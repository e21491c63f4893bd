"""Every network by its name: the family's variants, and attention on a trunk from timm."""

import inspect
from typing import Any

from ..errors import UserError
from ..family import ResidualAttentionNetwork
from ..family import variants as family
from ..family.staged import StagedNetwork
from ..hints import did_you_mean
from .backbone import NAME, Weights
from .network import TrunkNetwork

TRUNK_OPTIONS = tuple(
    name for name in inspect.signature(TrunkNetwork).parameters if name not in ("pretrained", "num_classes", "in_chans")
)


def list_models() -> list[str]:
    """Every name that `create_model` accepts: the family's variants, and ``attention_trunk``."""
    return [*family.list_models(), NAME]


def create_model(
    name: str, num_classes: int | None = None, in_chans: int = 3, *, pretrained: Weights = False, **overrides: Any
) -> StagedNetwork:
    """Create a network by name.

    Args:
        name: one of `list_models()`.
        num_classes: the network's default (1000, or 10 for CIFAR) if None.
        pretrained: only for ``attention_trunk``: True starts from timm's weights for the trunk, a path or an http(s)
            address from the weights in that file.
        overrides: any argument of `ResidualAttentionNetwork`, or of `TrunkNetwork` for ``attention_trunk``, such as
            ``trunk="resnet50"``.

    Raises:
        UserError: an unknown name or override, a value that is not supported, or weights that are not available.

    Example:
        >>> model = create_model("attention_trunk", num_classes=10, trunk="resnet18")
    """
    network, arguments = constructor(name, num_classes, in_chans, **overrides)
    if network is TrunkNetwork:
        return network(**arguments, pretrained=pretrained)
    if pretrained:
        raise UserError(f"pretrained is for {NAME}; `load` gives {name} with its trained weights")
    model = network(**arguments)
    model.pretrained_cfg = described(name, model)
    return model


def described(name: str, model: StagedNetwork) -> dict[str, Any]:
    """timm's ``pretrained_cfg`` of a variant, with the classes and channels of ``model``."""
    cfg = family.preprocessing(name)
    size = (model.in_chans, *cfg["input_size"][1:])
    return {**cfg, "num_classes": model.num_classes, "input_size": size}


def constructor(
    name: str, num_classes: int | None = None, in_chans: int = 3, **overrides: Any
) -> tuple[type[ResidualAttentionNetwork] | type[TrunkNetwork], dict[str, Any]]:
    """The class of a named network, and its constructor's arguments. Raises UserError as `create_model`."""
    if name != NAME:
        _check_name(name)
        for option in ("trunk", "trunk_args"):
            if option in overrides:
                raise UserError(f"{name} takes no trunk; leave the model's name out, or use {NAME}")
        return ResidualAttentionNetwork, family.network_arguments(name, num_classes, in_chans, **overrides)
    for key in overrides:
        if key not in TRUNK_OPTIONS:
            options = ", ".join(TRUNK_OPTIONS)
            raise UserError(f"{NAME} has no option {key!r}{did_you_mean(key, TRUNK_OPTIONS)}; it has {options}")
    classes = {} if num_classes is None else {"num_classes": num_classes}
    return TrunkNetwork, {**classes, "in_chans": in_chans, **overrides}


def _check_name(name: str) -> None:
    known = list_models()
    if name not in known:
        raise UserError(f"no model named {name!r}{did_you_mean(name, known)}; `ran models` lists them")
