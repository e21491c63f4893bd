"""The figures of a step, and their way from the device."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepResult:
    """Sums over this process's part of one batch, and the norm of the whole gradient.

    Attributes:
        step: optimizer steps done, this one included.
        lr: the full learning rate of the step.
        seen: images.
    """

    step: int
    lr: float
    seen: int
    loss_sum: float
    grad_norm: float
    tally: dict[str, float] = field(default_factory=dict)


class Step:
    """The figures of a step on their way from the device.

    Their copy is queued behind the step itself, so a GPU can begin the next step before anybody has read them.
    """

    def __init__(self, number: int, lr: float, seen: int, figures: dict[str, Tensor]) -> None:
        self.number, self.lr, self.seen, self.names = number, lr, seen, list(figures)
        values = torch.stack([value.detach().float() for value in figures.values()])
        self.values = values.to("cpu", non_blocking=True)
        self.copied = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def read(self) -> StepResult:
        """Wait for the figures."""
        if self.copied is not None:
            self.copied.synchronize()
        found = dict(zip(self.names, self.values.tolist(), strict=True))
        return StepResult(self.number, self.lr, self.seen, found.pop("loss"), found.pop("norm"), found)
