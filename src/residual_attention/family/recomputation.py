"""Gradient checkpointing: activations of a stage are recomputed in the backward pass instead of stored."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def _frozen_statistics(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Freeze BN running statistics while activations are recomputed for the backward pass.

    Momentum 0 instead of no tracking: the second pass must save the same tensors as the first.
    """
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def recomputed(stage: nn.Module, x: Tensor) -> Tensor:
    """The stage's output for ``x``; only the input of each module is kept for the backward pass."""
    for module in stage.children():
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        x = checkpoint(
            module,
            x,
            use_reentrant=False,
            context_fn=lambda norms=norms: (nullcontext(), _frozen_statistics(norms)),
        )  # type: ignore[assignment]
    return x
