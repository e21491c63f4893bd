"""The network's choices by name: what each means and where it is implemented. The first of each is the paper's.

Listing names does not import torch, so the command line stays fast. Units and mask activations are open: plugins can
add more (`register_unit`, `register_mask_activation`).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..errors import UserError
from ..plugins import Choice, Choices

T = TypeVar("T", bound=type)

UNITS: Choices[Choice] = Choices(
    "unit",
    {
        "preact": Choice("pre-activation bottlenecks", "family.units:PREACT"),
        "resnext": Choice("ResNeXt's bottlenecks", "family.units:RESNEXT"),
        "inception": Choice("residual Inception", "family.units:INCEPTION"),
        "vgg": Choice("pairs of 3x3 convolutions, in the trunk only", "family.units:VGG"),
        "dense": Choice("dense layers, in the trunk only", "family.units:DENSE"),
    },
    "The units that the network is built from.",
)

MASK_ACTIVATIONS: Choices[Choice] = Choices(
    "mask_activation",
    {
        "mixed": Choice("a sigmoid", "family.attention:MixedMask"),
        "channel": Choice("a unit vector over channels at each position", "family.attention:ChannelMask"),
        "spatial": Choice("a sigmoid of each channel, standardised over positions", "family.attention:SpatialMask"),
    },
    "The activation at the end of the mask branch.",
)

MASK_STRUCTURES: Choices[Choice] = Choices(
    "mask_structure",
    {
        "encoder_decoder": Choice("down- and up-sampling", True),
        "local": Choice("the same units at one size", False),
    },
    "The mask branch.",
    closed=True,
)
"""The value: whether the mask branch resamples."""

LEARNINGS: Choices[Choice] = Choices(
    "learning",
    {
        "residual": Choice("H = (1 + M) * T", "family.attention:residual_fusion"),
        "naive": Choice("H = M * T", "family.attention:naive_fusion"),
        "input": Choice("H = x + M * T, in some descriptions but not in the paper", "family.attention:input_fusion"),
        "plain": Choice("H = T, a residual network without masks", None),
    },
    "How the module combines mask M and trunk T of its input x.",
    closed=True,
)
"""The value: the fusion, None for a network without masks."""

STEMS: Choices[Choice] = Choices(
    "stem",
    {
        "imagenet": Choice("7x7 with stride 2 and a max-pool", "family.stems:imagenet_stem"),
        "cifar": Choice("3x3", "family.stems:cifar_stem"),
        "cifar_wide": Choice("5x5 and a max-pool", "family.stems:cifar_wide_stem"),
        "cifar_wide_nopool": Choice("3x3 with twice the channels", "family.stems:cifar_wide_nopool_stem"),
    },
    "The layers before the first stage.",
    closed=True,
)

CHOICES = {choices.kind: choices for choices in (UNITS, MASK_ACTIVATIONS, MASK_STRUCTURES, LEARNINGS, STEMS)}
"""Override of `create_model` -> its choices."""


def register_mask_activation(name: str, *, text: str = "") -> Callable[[T], T]:
    """A class decorator: registers a `torch.nn.Module`, built without arguments, as ``mask_activation=name``.

    It maps the mask head's output (B, C, H, W) to M of the same shape. ``text`` describes it in help. A class with
    ``signed = True`` guarantees M in [-1, 1], drawn on a scale symmetric about 0; otherwise M must lie in [0, 1].
    """

    def describe(cls: type) -> Choice:
        _check_class(f"mask_activation {name!r}", cls)
        return Choice(text, cls)

    return MASK_ACTIVATIONS.register(name, describe)


def register_unit(name: str, *, text: str = "", everywhere: bool = False, preact: bool = True) -> Callable[[T], T]:
    """A class decorator: registers a `torch.nn.Module`, built by ``cls(in_chs, out_chs, stride=1)``, as ``unit=name``.

    It maps (B, in_chs, H, W) to (B, out_chs, ceil(H / stride), ceil(W / stride)); every width must be a multiple of
    its ``divisor``, if it has one. By default it is used only in the trunk T, and the mask and the stages use the
    paper's units. ``everywhere`` uses it throughout; ``preact`` then says whether a BN-ReLU must follow (`UnitStyle`).
    """

    def describe(cls: type) -> Choice:
        from .units import PREACT, UnitStyle

        _check_class(f"unit {name!r}", cls)
        return Choice(text, UnitStyle(cls, cls, preact) if everywhere else UnitStyle(PREACT.unit, cls))

    return UNITS.register(name, describe)


def _check_class(what: str, thing: Any) -> None:
    if not isinstance(thing, type):
        raise UserError(f"{what} must be a torch.nn.Module class, not {type(thing).__name__}")


def signed_masks(overrides: Mapping[str, Any]) -> bool:
    """Whether a network with these overrides has masks in [-1, 1] instead of [0, 1] (paper, eq. 4 to 6)."""
    name = overrides.get("mask_activation") or MASK_ACTIVATIONS.default
    return bool(getattr(MASK_ACTIVATIONS.value(name), "signed", False))


def plugins_needed(overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """The plugins whose choices are among the overrides of `create_model`, to be stored in a checkpoint."""
    found = {choices.plugin_of(overrides[name]) for name, choices in CHOICES.items() if overrides.get(name)}
    return tuple(sorted(plugin for plugin in found if plugin is not None))
