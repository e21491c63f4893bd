"""The named variants: one table, one row per name."""

import inspect
from typing import Any

from ..errors import UserError
from ..hints import did_you_mean
from .network import ResidualAttentionNetwork

_IMAGENET = {"stem": "imagenet", "widths": (256, 512, 1024), "mask_depths": (3, 2, 1), "final_width": 2048}
_CIFAR = {
    "stem": "cifar",
    "widths": (64, 128, 256),
    "mask_depths": (3, 2, 1),
    "final_width": 256,
    "final_stride": 1,
    "num_classes": 10,
}
_WIDE = {
    "stem": "cifar_wide",
    "widths": (128, 256, 512),
    "mask_depths": (2, 1, 1),
    "final_width": 1024,
    "final_stride": 1,
    "num_classes": 10,
}
_NOPOOL = {**_WIDE, "stem": "cifar_wide_nopool"}

VARIANTS: dict[str, dict[str, Any]] = {
    # ImageNet, 224 px: paper, section 4.2; the authors' own definitions
    "attention56": {**_IMAGENET, "modules": (1, 1, 1)},
    "attention92": {**_IMAGENET, "modules": (1, 2, 3)},
    "attentionnext56": {**_IMAGENET, "modules": (1, 1, 1), "unit": "resnext"},
    "attentionnext92": {**_IMAGENET, "modules": (1, 2, 3), "unit": "resnext"},
    "attentioninception56": {**_IMAGENET, "modules": (1, 1, 1), "unit": "inception"},
    # CIFAR, 32 px: paper, section 4.1, tables 1 to 5; depth 36m + 20
    "attention56_cifar": {**_CIFAR, "modules": (1, 1, 1)},
    "attention92_cifar": {**_CIFAR, "modules": (2, 2, 2)},
    "attention128_cifar": {**_CIFAR, "modules": (3, 3, 3)},
    "attention164_cifar": {**_CIFAR, "modules": (4, 4, 4)},
    "attention236_cifar": {**_CIFAR, "modules": (6, 6, 6)},
    "attention452_cifar": {**_CIFAR, "modules": (6, 6, 6), "p": 2, "t": 4, "r": 3},
    # Wider networks of public re-implementations, with and without the stem's pool
    "attention56_cifar_wide": {**_WIDE, "modules": (1, 1, 1)},
    "attention92_cifar_wide": {**_WIDE, "modules": (1, 2, 3)},
    "attention56_cifar_wide_nopool": {**_NOPOOL, "modules": (1, 1, 1)},
    "attention92_cifar_wide_nopool": {**_NOPOOL, "modules": (1, 2, 3)},
}

OVERRIDES = tuple(inspect.signature(ResidualAttentionNetwork).parameters)


def _variant(name: str) -> dict[str, Any]:
    if name not in VARIANTS:
        raise UserError(f"no model named {name!r}{did_you_mean(name, tuple(VARIANTS))}; `ran models` lists them")
    return VARIANTS[name]


def default_image_size(name: str) -> int:
    """The side in pixels that the variant was designed for: 224 (ImageNet) or 32 (CIFAR)."""
    return 224 if _variant(name)["stem"] == "imagenet" else 32


def preprocessing(name: str) -> dict[str, Any]:
    """timm's description of a variant's input and classifier, its ``pretrained_cfg``, for weights trained as usual."""
    size = default_image_size(name)
    imagenet = size == 224
    return {
        "num_classes": VARIANTS[name].get("num_classes", 1000),
        "input_size": (3, size, size),
        "pool_size": None,
        "fixed_input_size": False,
        "crop_pct": 0.875 if imagenet else 1.0,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406) if imagenet else (0.4914, 0.4822, 0.4465),
        "std": (0.229, 0.224, 0.225) if imagenet else (0.2470, 0.2435, 0.2616),
        "first_conv": "stem.0",
        "classifier": "head.fc",
    }


def list_models() -> list[str]:
    """Every name that `create_model` accepts."""
    return list(VARIANTS)


def create_model(
    name: str, num_classes: int | None = None, in_chans: int = 3, **overrides: Any
) -> ResidualAttentionNetwork:
    """A freshly initialised network of the family.

    Args:
        name: one of `list_models()`.
        num_classes: the variant's default (1000 or 10) if None.
        overrides: any argument of `ResidualAttentionNetwork`.

    Raises:
        UserError: an unknown name or override, or a value that is not supported.
    """
    return ResidualAttentionNetwork(**network_arguments(name, num_classes, in_chans, **overrides))


def network_arguments(name: str, num_classes: int | None = None, in_chans: int = 3, **overrides: Any) -> dict[str, Any]:
    """The constructor's arguments for a variant with overrides. Arguments and errors as in `create_model`."""
    variant = _variant(name)
    for key in overrides:
        if key not in OVERRIDES:
            raise UserError(
                f"{name} has no option {key!r}{did_you_mean(key, OVERRIDES)}; it has {', '.join(OVERRIDES)}"
            )
    arguments = {**variant, "in_chans": in_chans, **overrides}
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    return arguments
