"""Keep freed memory in the process: every layer allocates and frees large tensors."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
_KEPT = (2**31 - 1, 2**30)
_DYNAMIC = (2**26, 2**25)  # what glibc's dynamic adjustment reaches once large blocks are freed


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's ``mallopt``; None on other systems and C libraries."""
    try:
        return ctypes.CDLL(None).mallopt if sys.platform.startswith("linux") else None
    except (OSError, AttributeError):
        return None


def _set_thresholds(trim: int, mmap: int) -> bool:
    """Set both thresholds; returns whether the C library accepted them."""
    mallopt = _mallopt()
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, mmap)) and bool(mallopt(M_TRIM_THRESHOLD, trim))


def keep_freed_memory() -> bool:
    """Let this process reuse freed blocks of up to 1 GiB instead of mapping and zeroing new pages for each tensor.

    Without it, page faults take a fifth of a CIFAR network's prediction time in fp32 at batch 64 (docs/speed.md). Does
    nothing if the C library is not glibc, or if the environment sets other thresholds or another allocator.
    Returns whether the setting took effect.
    """
    chosen = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
    return not any(name in os.environ for name in chosen) and _set_thresholds(*_KEPT)


def release_freed_memory() -> bool:
    """Restore glibc's default behaviour and return the memory kept so far to the kernel.

    The bench calls it so that other networks run unmodified.
    """
    taken = _set_thresholds(*_DYNAMIC)
    if taken:
        ctypes.CDLL(None).malloc_trim(0)
    return taken
