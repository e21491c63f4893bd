"""Gradient checkpointing: a stage whose activations are computed a second time for the backward, not kept."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def _frozen_statistics(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Leave BN's running statistics alone while activations are computed a second time for the backward.

    Momentum 0 rather than no tracking: the second pass must save the same tensors as the first.
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
    """The stage's output on ``x``; of each of its modules only the input is kept for the backward."""
    for module in stage.children():
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        x = checkpoint(
            module,
            x,
            use_reentrant=False,
            context_fn=lambda norms=norms: (nullcontext(), _frozen_statistics(norms)),
        )  # type: ignore[assignment]
    return x
