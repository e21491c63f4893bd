"""The network family in timm: importing this package registers every variant with timm."""

from ..family import (
    VARIANTS,
    AttentionModule,
    ResidualAttentionNetwork,
    create_model,
    default_image_size,
    list_models,
)
from ..family.ledger import LedgerRow, ledger_row
from . import registry

__all__ = [
    "VARIANTS",
    "AttentionModule",
    "LedgerRow",
    "ResidualAttentionNetwork",
    "create_model",
    "default_image_size",
    "ledger_row",
    "list_models",
    "registry",
]
