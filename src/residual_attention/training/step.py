"""One update of the weights: loss, gradient, checks, optimizer, average."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.randomness import derive_seed
from ..errors import UserError
from .config import RunConfig
from .distributed import Processes
from .freezing import drop_gradients
from .interrupt import SignalWatch
from .machine import Machine
from .state import TrainState
from .task import Batch, Task

MAX_SKIPPED_IN_A_ROW = 20  # fp16 steps whose gradients overflowed


class NonFiniteError(UserError):
    """The loss or gradient is not finite; no state after this step is saved."""


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


@dataclass
class Job:
    """Everything that stays constant during training."""

    config: RunConfig
    machine: Machine
    processes: Processes
    task: Task
    forward: nn.Module  # the model as it is called: wrapped in DDP, compiled
    epochs: int
    total_steps: int
    signals: SignalWatch

    @property
    def reads_late(self) -> bool:
        """Whether a step's figures are read, and checked, during the next one: reading at once would stall a GPU.

        fp16 has to know whether a step was skipped, and several processes agree on each one.
        """
        machine = self.machine
        return machine.device.type == "cuda" and machine.dtype != torch.float16 and self.processes.world == 1


def _backward(job: Job, state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the gradients of one batch in ``accumulate`` parts; returns the summed loss and tally."""
    device, dtype, count = job.machine.device, job.machine.dtype, len(batch)
    parts = batch.parts(job.config.accumulate)
    loss_sum = torch.zeros((), device=device)
    tally: dict[str, Tensor] = {}
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        holds_back = isinstance(job.forward, DistributedDataParallel) and not last
        with job.forward.no_sync() if holds_back else nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                output = job.task.forward(job.forward, part)
            found = job.task.loss(output, part, state.model)
            total = found.objective * (len(part) / count)
            (total if state.scaler is None else state.scaler.scale(total)).backward()
        loss_sum += found.loss.detach() * len(part)
        for name, value in found.tally.items():
            tally[name] = tally.get(name, torch.zeros((), device=device)) + value.detach()
    return loss_sum, tally


def _update(job: Job, state: TrainState) -> Tensor:
    """Clip and step. Returns the gradient norm. Raises NonFiniteError before the update if figures are read at once."""
    drop_gradients(state.model, job.config, state.progress.epoch)
    parameters = [p for p in state.model.parameters() if p.grad is not None]
    if state.scaler is not None:
        state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    finite = job.reads_late or math.isfinite(norm.item())
    if state.scaler is None and not finite:
        raise gradient_error(state.progress.step, norm.item())
    if job.config.clip_grad is not None and finite:
        nn.utils.clip_grads_with_norm_(parameters, job.config.clip_grad, norm)
    if state.scaler is None:
        state.optimizer.step()
    else:
        _scaled_step(state, finite)
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    return norm


def _scaled_step(state: TrainState, finite: bool) -> None:
    """fp16: an overflow skips the update and lowers the scale; twenty in a row are an error."""
    assert state.scaler is not None
    progress = state.progress
    state.scaler.step(state.optimizer)  # skips the update if it found an infinity
    state.scaler.update()
    progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
    progress.skipped_steps += not finite
    if progress.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise NonFiniteError(
            f"step {progress.step}: fp16 gradients overflowed {MAX_SKIPPED_IN_A_ROW} times in a row; "
            "use --precision bf16 or lower --lr"
        )


def train_step(job: Job, state: TrainState, batch: Batch) -> Step:
    """One optimizer step on this process's part of a batch."""
    progress, count = state.progress, len(batch)
    torch.manual_seed(derive_seed(job.config.seed, "dropout", progress.step, job.processes.rank))
    state.schedule.before_step(progress.step)
    loss_sum, tally = _backward(job, state, batch)
    if not job.reads_late:
        loss = loss_sum.item() / count
        if job.processes.largest(int(not math.isfinite(loss))):
            raise loss_error(progress.step, loss)
    norm = _update(job, state)
    return Step(progress.step + 1, state.schedule.lr, count, {**tally, "loss": loss_sum, "norm": norm})


def loss_error(step: int, loss: float) -> NonFiniteError:
    return NonFiniteError(f"step {step}: the loss is not finite ({loss}); lower --lr or use --precision fp32")


def gradient_error(step: int, norm: float) -> NonFiniteError:
    return NonFiniteError(f"step {step}: the gradient is {norm}; lower --lr or set --clip-grad")
