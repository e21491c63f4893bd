"""One pass over a split: loss, errors and every sample's probabilities, exact over any number of processes."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.loading import EvalBatch
from ..family.modes import evaluating


@dataclass(frozen=True)
class Evaluation:
    """Figures over N samples of K classes, and what they were computed from, in the split's order.

    ``loss`` is the mean cross-entropy in nats; errors are in percent; ``probabilities`` (N, K) float32,
    ``labels`` and ``indices`` (N,) int64, on the CPU. ``top5_error_pct`` is None for five classes or fewer.
    """

    loss: float
    top1_error_pct: float
    top5_error_pct: float | None
    probabilities: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def _gather(batches: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The batches of all processes, of which there may be none on some, as one."""
    if dist.is_available() and dist.is_initialized():
        everyone: list = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, batches)
        batches = [batch for theirs in everyone for batch in theirs]
    return tuple(torch.cat(columns) for columns in zip(*batches, strict=True))


def error_pct(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percentage of rows of (N, K) whose label is not among the k largest."""
    hits = (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1)
    return 100.0 * (1.0 - hits.double().mean().item())


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[EvalBatch], *, precision: torch.dtype = torch.float32) -> Evaluation:
    """Evaluate ``model`` in eval mode (its mode is restored) under autocast to ``precision``.

    Loss and probabilities are computed in fp32 from the logits.
    """
    parts = []
    with evaluating(model):
        for batch in batches:
            device = batch.images.device
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                output = model(batch.images.contiguous(memory_format=torch.channels_last))
            parts.append((output.float().cpu(), batch.labels.cpu(), batch.indices))
    all_logits, all_labels, all_indices = _gather(parts)
    order = all_indices.argsort()
    all_logits, all_labels = all_logits[order], all_labels[order]
    return Evaluation(
        loss=F.cross_entropy(all_logits.double(), all_labels).item(),
        top1_error_pct=error_pct(all_logits, all_labels),
        top5_error_pct=error_pct(all_logits, all_labels, 5) if all_logits.shape[1] > 5 else None,
        probabilities=all_logits.softmax(dim=1),
        labels=all_labels,
        indices=all_indices[order],
    )
