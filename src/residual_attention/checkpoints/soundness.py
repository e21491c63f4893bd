"""Whether weights can give an answer at all: checked once, when a model is loaded."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .format import CheckpointError


def _all_finite(tensor: Tensor) -> bool:
    """One sum finds NaN and infinity; only where it is not finite, each value is looked at (a sum may overflow)."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def check_weights(weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise CheckpointError, naming ``source`` and the tensor, for a weight that is NaN or infinite, or for a variance
    below 0."""
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            continue
        if not _all_finite(tensor):
            raise CheckpointError(f"{source} cannot be used: its weights {name} are not all finite")
        if name.endswith("running_var") and tensor.numel() and bool((tensor < 0).any()):
            raise CheckpointError(f"{source} cannot be used: its variances {name} are not all positive")
