"""Memory that glibc would give back to the kernel is kept: large tensors come and go in every layer."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT = (2**31 - 1, 2**30)
_DYNAMIC = (2**26, 2**25)  # where glibc's own adjustment ends once large blocks have been freed


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's own; None on other systems and with other C libraries."""
    try:
        return ctypes.CDLL(None).mallopt if sys.platform.startswith("linux") else None
    except (OSError, AttributeError):
        return None


def _set_thresholds(trim: int, mmap: int) -> bool:
    """Whether the C library took both."""
    mallopt = _mallopt()
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, mmap)) and bool(mallopt(M_TRIM_THRESHOLD, trim))


def keep_freed_memory() -> bool:
    """Let this process reuse freed blocks of up to 1 GiB instead of mapping and zeroing new pages for each tensor.

    Without it page faults take a fifth of a CIFAR network's prediction in fp32 at batch 64 (docs/speed.md). Does
    nothing where the C library is not glibc, or where the environment chose other thresholds or another allocator.
    Returns whether it is in force.
    """
    chosen = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
    return not any(name in os.environ for name in chosen) and _set_thresholds(*_KEPT)


def release_freed_memory() -> bool:
    """Back to what glibc does by itself once large blocks have been freed, with nothing kept from before.

    So the bench runs other networks as they come.
    """
    taken = _set_thresholds(*_DYNAMIC)
    if taken:
        ctypes.CDLL(None).malloc_trim(0)
    return taken
