"""Running out of memory, said as what to lower."""

import contextlib
from collections.abc import Iterator

import torch

from ..errors import UserError
from .config import RunConfig


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether the GPU, Python or the CPU allocator (a plain RuntimeError) ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "alloc" in str(error) and "memory" in str(error)


@contextlib.contextmanager
def explained_memory(config: RunConfig) -> Iterator[None]:
    """Turn an out-of-memory error, on the GPU or the host, into a UserError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory at batch size {config.batch_size}: lower --batch-size or --image-size, or set "
            f"--accumulate {2 * config.accumulate} or --grad-checkpointing"
        ) from error
