"""Copies to a device that do not wait for what the device is doing."""

import numpy as np
import torch
from torch import Tensor


def to_device(values: Tensor | np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``values`` on ``device``. From pageable memory, a GPU would first have to finish everything queued."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if dtype is not None and tensor.device.type == "cpu":
        tensor = tensor.to(dtype)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype)
