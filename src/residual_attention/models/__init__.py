"""The network family. Importing this package registers every variant with timm."""

from .attention import AttentionModule
from .ledger import LedgerRow, ledger_row
from .network import ResidualAttentionNetwork
from .variants import VARIANTS, create_model, default_image_size, list_models, nearest

__all__ = [
    "VARIANTS",
    "AttentionModule",
    "LedgerRow",
    "ResidualAttentionNetwork",
    "create_model",
    "default_image_size",
    "ledger_row",
    "list_models",
    "nearest",
]
