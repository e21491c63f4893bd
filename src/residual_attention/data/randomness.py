"""Seeds derived from what they are used for, so a resumed run draws the same numbers as an uninterrupted one."""

import hashlib

import numpy as np
import torch


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed from keys such as ``(seed, "order", epoch)``; equal keys give equal seeds on every machine."""
    text = "\x1f".join(str(key) for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def torch_generator(*keys: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(*keys))


def numpy_generator(*keys: int | str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(derive_seed(*keys)))
