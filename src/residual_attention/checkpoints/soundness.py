"""Whether weights can give an answer at all: checked once, when a model is loaded."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from .format import CheckpointError


def check_weights(weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise CheckpointError, naming ``source`` and the tensor, for a weight that is NaN or infinite, or for a variance
    below 0.

    One norm over everything decides; only where it is not finite, or overflows, is each tensor looked at.
    """
    floats = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point() and tensor.numel()}
    if floats and not get_total_norm(list(floats.values()), foreach=True).isfinite():
        for name, tensor in floats.items():
            if not tensor.isfinite().all():
                raise CheckpointError(f"{source} cannot be used: its weights {name} are not all finite")
    variances = {name: tensor for name, tensor in floats.items() if name.endswith("running_var")}
    if variances and torch.cat([tensor.reshape(-1) for tensor in variances.values()]).min() < 0:
        name = next(name for name, tensor in variances.items() if tensor.min() < 0)
        raise CheckpointError(f"{source} cannot be used: its variances {name} are not all positive")
