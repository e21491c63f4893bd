"""The network family, in plain torch; `residual_attention.models` also registers it with timm.

Importing it does not import timm, which takes longer than torch and which prediction does not need. The package is lazy
(PEP 562), so importing `choices` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention import AttentionModule
    from .network import ResidualAttentionNetwork
    from .variants import VARIANTS, create_model, default_image_size, list_models

_HOMES = {
    "VARIANTS": "variants",
    "AttentionModule": "attention",
    "ResidualAttentionNetwork": "network",
    "create_model": "variants",
    "default_image_size": "variants",
    "list_models": "variants",
}

__all__ = [
    "VARIANTS",
    "AttentionModule",
    "ResidualAttentionNetwork",
    "create_model",
    "default_image_size",
    "list_models",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
