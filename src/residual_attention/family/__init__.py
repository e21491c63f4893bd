"""The network family, of torch alone; `residual_attention.models` is the same with timm knowing the names.

Nothing here imports timm, which takes longer to import than torch does, so that a prediction need not wait for it.
"""

from .attention import AttentionModule
from .network import ResidualAttentionNetwork
from .variants import VARIANTS, create_model, default_image_size, list_models

__all__ = [
    "VARIANTS",
    "AttentionModule",
    "ResidualAttentionNetwork",
    "create_model",
    "default_image_size",
    "list_models",
]
