"""The training loop: plain functions that read top to bottom.

``fit`` runs epochs, ``train_epoch`` runs steps, ``train_step`` makes one update. A `Listener` prints, draws and saves;
the loop knows nothing about files or terminals.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.randomness import derive_seed
from ..errors import UserError
from .config import RunConfig
from .distributed import Processes
from .freezing import drop_gradients, set_trunk
from .interrupt import SignalWatch
from .machine import Machine
from .state import TrainState
from .step import Step, StepResult
from .task import Batch, Task, Validation

MAX_SKIPPED_IN_A_ROW = 20  # fp16 steps whose gradients overflowed


class NonFiniteError(UserError):
    """The loss or gradient is not finite; no state after this step is saved."""


class Listener(Protocol):
    """Receives the loop's progress; called on every process."""

    def on_step(self, state: TrainState, result: StepResult, batch: Any) -> None: ...
    def on_epoch(self, state: TrainState, row: dict, is_best: bool) -> None: ...
    def save(self, state: TrainState) -> None: ...


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
        raise _gradient_error(state.progress.step, norm.item())
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
            raise _loss_error(progress.step, loss)
    norm = _update(job, state)
    return Step(progress.step + 1, state.schedule.lr, count, {**tally, "loss": loss_sum, "norm": norm})


def _loss_error(step: int, loss: float) -> NonFiniteError:
    return NonFiniteError(f"step {step}: the loss is not finite ({loss}); lower --lr or use --precision fp32")


def _gradient_error(step: int, norm: float) -> NonFiniteError:
    return NonFiniteError(f"step {step}: the gradient is {norm}; lower --lr or set --clip-grad")


def _account(job: Job, state: TrainState, listener: Listener, step: Step, batch: Batch) -> None:
    """Add a step's figures to the epoch's. Raises NonFiniteError for a step that was not checked before its update."""
    result, progress = step.read(), state.progress
    if job.reads_late:
        if not math.isfinite(result.loss_sum):
            raise _loss_error(result.step - 1, result.loss_sum / result.seen)
        if not math.isfinite(result.grad_norm):
            raise _gradient_error(result.step - 1, result.grad_norm)
    progress.loss_sum += result.loss_sum
    for name, value in result.tally.items():
        progress.tally[name] = progress.tally.get(name, 0.0) + value
    progress.seen += result.seen
    progress.images_seen += result.seen
    listener.on_step(state, result, batch)


def train_epoch(job: Job, state: TrainState, listener: Listener) -> bool:
    """Train the rest of the current epoch. Returns True if a signal stopped it; the state is then saved."""
    progress, config = state.progress, job.config
    job.forward.train()
    parallel = isinstance(job.forward, DistributedDataParallel)
    set_trunk(state.model, config, progress.epoch, keep_gradients=parallel)
    started = time.perf_counter()
    waiting: list[tuple[Step, Batch]] = []  # whose figures are not read yet

    def account_for(all_but: int) -> None:
        while len(waiting) > all_but:
            _account(job, state, listener, *waiting.pop(0))

    for batch in job.task.batches(progress.epoch, progress.step_in_epoch):
        waiting.append((train_step(job, state, batch), batch))
        progress.step += 1
        progress.step_in_epoch += 1
        now = time.perf_counter()
        progress.train_time_s += now - started
        progress.epoch_time_s += now - started
        started = now
        account_for(all_but=int(job.reads_late))
        if job.processes.largest(job.signals.received):
            account_for(all_but=0)
            listener.save(state)
            return True
        if config.checkpoint_steps and progress.step % config.checkpoint_steps == 0:
            account_for(all_but=0)
            listener.save(state)
        if progress.step >= job.total_steps:
            break
    account_for(all_but=0)
    return False


def _validate(job: Job, state: TrainState) -> Validation | None:
    job.processes.same_buffers(state.evaluated)
    result = job.task.validate(state.evaluated)
    if result is not None and result.loss is not None and not math.isfinite(result.loss):
        raise NonFiniteError(
            f"step {state.progress.step}: the validation loss is not finite (the state before it is saved); lower --lr"
        )
    return result


def _is_best(error_pct: float, best_error_pct: float | None) -> bool:
    """Whether the validation error is at most the lowest so far; a tie goes to the later epoch.

    Loss does not break ties. They are frequent with few validation images, and a lower loss would favour a network
    that has not been trained to the end.
    """
    return best_error_pct is None or error_pct <= best_error_pct


def finish_epoch(job: Job, state: TrainState, listener: Listener) -> None:
    """Save, validate, record the epoch, advance to the next, save again."""
    progress = state.progress
    listener.save(state)
    names = sorted(progress.tally)
    sums = job.processes.total([progress.loss_sum, float(progress.seen), *(progress.tally[name] for name in names)])
    loss_sum, seen, *rest = sums
    validation = _validate(job, state)
    row = {
        "epoch": progress.epoch + 1,
        "step": progress.step,
        "lr": state.schedule.lr,
        **job.task.epoch_figures(loss_sum / seen, dict(zip(names, rest, strict=True)), seen),
        **(validation.figures if validation else {}),
        "images_per_s": seen / progress.epoch_time_s,
        "time_s": progress.train_time_s,
    }
    before = progress.best_error_pct
    is_best = validation is None or _is_best(validation.error_pct, before)
    gained = is_best and (validation is None or validation.error_pct != before)  # a tie is no gain
    progress.epochs_without_gain = 0 if gained else progress.epochs_without_gain + 1
    if is_best:
        progress.best_epoch = progress.epoch + 1
        if validation is not None:
            progress.best_error_pct = validation.error_pct
    state.schedule.after_epoch(validation.loss if validation else None)
    progress.history.append(row)
    progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
    progress.loss_sum, progress.tally, progress.seen, progress.epoch_time_s = 0.0, {}, 0, 0.0
    patience = job.config.early_stop
    progress.finished = progress.step >= job.total_steps or bool(patience and progress.epochs_without_gain >= patience)
    listener.on_epoch(state, row, is_best)
    listener.save(state)


def fit(job: Job, state: TrainState, listener: Listener) -> bool:
    """Train from the current state to the end. Returns True if a signal stopped it."""
    while not state.progress.finished:
        progress = state.progress  # a stop can fall between an epoch's last step and its end
        at_boundary = progress.step_in_epoch >= job.task.steps_per_epoch or progress.step >= job.total_steps
        if not at_boundary and train_epoch(job, state, listener):
            return True
        finish_epoch(job, state, listener)
        if job.processes.largest(job.signals.received):
            return True
    return False


__all__ = ["Job", "Listener", "NonFiniteError", "StepResult", "fit", "train_step"]
