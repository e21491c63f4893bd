"""Training on a GPU without Python in its way: forward and backward pass as CUDA graphs.

A network of this family is a thousand small kernels a step, and launching them takes longer than running them. A graph
is launched as a whole. Recording one takes a few passes, where a compiler takes a minute or more. The kernels are the
same, and so are the results.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MOST_SHAPES = 8  # of a run's batches; beyond that, the network is called as it is
Pass = Callable[[Tensor], Tensor]


class _Alone(nn.Module):
    """Recording replaces a module's ``forward``; this one's can be spared."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


class GraphedForward(nn.Module):
    """Calls ``model``, in training by the graphs that it records at the first batch of each shape.

    Gradients stay where the graph writes them, so each backward pass must be followed by its update.

    Args:
        dtype: of autocast during the recording.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.passes: dict[torch.Size, Pass] = {}
        self.pool: Any = None

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """What ``model`` returns."""
        images = inputs[0]
        recordable = len(inputs) == 1 and not more and isinstance(images, Tensor) and images.is_cuda
        if not (recordable and self.training and torch.is_grad_enabled()):
            return self.model(*inputs, **more)
        if images.shape not in self.passes:
            if len(self.passes) >= MOST_SHAPES or _watched(self.model):
                return self.model(images)
            self.passes[images.shape] = self._recorded(images)
        return self.passes[images.shape](images)

    def _recorded(self, images: Tensor) -> Pass:
        """Record both passes. The runs that warm up leave no trace in the BN statistics."""
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        before = [buffer.clone() for buffer in self.model.buffers()]
        with torch.autocast("cuda", self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False):
            recorded: Any = torch.cuda.make_graphed_callables(
                _Alone(self.model), (images.clone(),), allow_unused_input=True, pool=self.pool
            )
        with torch.no_grad():
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
        return recorded


def _watched(model: nn.Module) -> bool:
    """Whether hooks run in a pass; a graph would not call them."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
