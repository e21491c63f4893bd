"""The training loop: plain functions that read top to bottom.

``fit`` runs epochs, ``train_epoch`` runs steps, ``train_step`` makes one update. A `Listener` prints, draws and saves;
the loop knows nothing about files or terminals.
"""

import math
import time
from typing import Any, Protocol

from torch.nn.parallel import DistributedDataParallel

from .freezing import set_trunk
from .state import TrainState
from .step import Job, NonFiniteError, Step, StepResult, gradient_error, loss_error, train_step
from .task import Batch, Validation


class Listener(Protocol):
    """Receives the loop's progress; called on every process."""

    def on_step(self, state: TrainState, result: StepResult, batch: Any) -> None: ...
    def on_epoch(self, state: TrainState, row: dict, is_best: bool) -> None: ...
    def save(self, state: TrainState) -> None: ...


def _account(job: Job, state: TrainState, listener: Listener, step: Step, batch: Batch) -> None:
    """Add a step's figures to the epoch's. Raises NonFiniteError for a step that was not checked before its update."""
    result, progress = step.read(), state.progress
    if job.reads_late:
        if not math.isfinite(result.loss_sum):
            raise loss_error(result.step - 1, result.loss_sum / result.seen)
        if not math.isfinite(result.grad_norm):
            raise gradient_error(result.step - 1, result.grad_norm)
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
