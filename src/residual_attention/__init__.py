"""Residual Attention Network: an image classifier that shows where it looks.

The root is lazy (PEP 562): nothing heavy is imported until a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .attention.choices import register_reading
    from .attention.masks import attention_masks, record_masks
    from .checkpoints.load import load
    from .classification.metrics import register_metric
    from .data.sources import register_data_source
    from .detection.load import load_detector
    from .detection.predict import detect_files
    from .family.choices import register_mask_activation, register_unit
    from .training.sections import register_report_section
    from .trunks.create import create_model, list_models

_HOMES = {
    "attention_masks": "attention.masks",
    "create_model": "trunks.create",
    "detect_files": "detection.predict",
    "list_models": "trunks.create",
    "load": "checkpoints.load",
    "load_detector": "detection.load",
    "record_masks": "attention.masks",
    "register_data_source": "data.sources",
    "register_mask_activation": "family.choices",
    "register_metric": "classification.metrics",
    "register_reading": "attention.choices",
    "register_report_section": "training.sections",
    "register_unit": "family.choices",
}

__all__ = [
    "__version__",
    "attention_masks",
    "create_model",
    "detect_files",
    "list_models",
    "load",
    "load_detector",
    "record_masks",
    "register_data_source",
    "register_mask_activation",
    "register_metric",
    "register_reading",
    "register_report_section",
    "register_unit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
