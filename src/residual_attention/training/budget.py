"""The length of a run with a time budget, from the speed measured before its first step.

The length is decided once and stored, so a resumed run ends at the same step, however fast the machine is by then.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..checkpoints.format import save_checkpoint
from ..errors import UserError
from .config import RunConfig
from .distributed import Processes
from .duration import duration, seconds_of
from .interrupt import SignalWatch
from .machine import Machine, prepared_forward
from .plan import Plan
from .state import TrainState, initial_state, pack
from .step import Job, train_step
from .task import Prepared

MOST_EPOCHS = 50  # of a run with a time budget; beyond that, an epoch repeats its images
TRIAL_EPOCHS = 100  # of the trial's plan: fine enough to meet every image side of a growing one
TRIAL_S = 4.0  # of measured steps at each side, at most a hundredth of the budget
REPORT_S = 15.0  # drawing and writing the report
SPARE = 0.03  # of the budget: steps vary


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Measured seconds. ``step`` maps an image side (px) to one optimizer step; ``fixed`` is spent once.

    ``epoch_end`` covers validation and saving; ``final`` the evaluation of every split in fp32.
    """

    step: dict[int, float]
    epoch_end: float
    final: float
    fixed: float


@dataclass(frozen=True)
class Length:
    """Epochs, passes over the images in each, and the seconds that the run is expected to take."""

    epochs: int
    repeats: int
    seconds: float


def expected_seconds(costs: Costs, side_at: Callable[[float], int], epochs: int, steps_per_epoch: int) -> float:
    """The duration of a run; ``side_at`` maps progress in [0, 1) to the image side in px."""
    steps = sum(costs.step[side_at(epoch / epochs)] for epoch in range(epochs)) * steps_per_epoch
    return costs.fixed + steps + epochs * costs.epoch_end + costs.final + REPORT_S


def longest(costs: Costs, side_at: Callable[[float], int], steps_for: Callable[[int], int], budget: float) -> Length:
    """The most training that fits into ``budget`` seconds, in at most `MOST_EPOCHS` epochs.

    ``steps_for`` maps passes per epoch to steps per epoch. Raises UserError if one epoch does not fit.
    """
    available = budget * (1 - SPARE)

    def seconds(epochs: int, repeats: int) -> float:
        return expected_seconds(costs, side_at, epochs, steps_for(repeats))

    if seconds(1, 1) > available:
        needed = seconds(1, 1) / (1 - SPARE)
        raise UserError(
            f"--time {duration(budget)} is too short for one epoch, which takes {duration(needed)} here with "
            "startup and report; allow more time, or use a smaller network, smaller images or fewer of them"
        )
    repeats = 1
    while seconds(MOST_EPOCHS + 1, repeats) <= available:
        repeats += 1
    epochs = next(count for count in range(MOST_EPOCHS, 0, -1) if seconds(count, repeats) <= available)
    return Length(epochs, repeats, seconds(epochs, repeats))


def _trial(prepared: Prepared, processes: Processes) -> tuple[Job, TrainState]:
    """A copy of the run, at a rate too low to do harm, whose steps cost what the run's will."""
    plan: Plan[Any] = replace(prepared.plan, config=replace(prepared.plan.config, lr=1e-6, schedule="constant"))
    state = initial_state(copy.deepcopy(prepared.model), plan, prepared.machine)
    forward = prepared_forward(state.model, prepared.machine, processes)
    job = Job(
        plan.config, prepared.machine, processes, prepared.task, forward, plan.epochs, plan.total_steps, SignalWatch()
    )
    return job, state


def _synchronised(machine: Machine) -> float:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
    return time.perf_counter()


def _step_seconds(job: Job, state: TrainState, epoch: int, limit: float) -> float:
    """Mean of at least two steps, and of ``limit`` seconds of them, after a first one that warms up."""
    job.forward.train()
    batches = job.task.batches(epoch, 0)
    train_step(job, state, next(batches))
    started, count = _synchronised(job.machine), 0
    for batch in batches:
        train_step(job, state, batch)
        count += 1
        if count >= 2 and job.processes.largest(int(time.perf_counter() - started > limit)):
            break
    return (_synchronised(job.machine) - started) / max(1, count)


def _forward_seconds(job: Job, state: TrainState, epoch: int, dtype: torch.dtype) -> float:
    """Seconds to evaluate one image, from the second of two batches."""
    state.model.eval()
    batches = job.task.batches(epoch, 0)
    taken = 0.0
    with torch.no_grad(), torch.autocast(job.machine.device.type, dtype, enabled=dtype != torch.float32):
        for _, batch in zip(range(2), batches, strict=False):
            started = _synchronised(job.machine)
            job.task.forward(state.model, batch)
            taken = (_synchronised(job.machine) - started) / len(batch)
    return taken


def _save_seconds(prepared: Prepared, state: TrainState, processes: Processes) -> float:
    if not processes.is_main:
        return 0.0
    started = time.perf_counter()
    tensors, _ = pack(state)
    with TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "trial.safetensors", tensors, prepared.task.card.to_header())
    return time.perf_counter() - started


def measure(prepared: Prepared, processes: Processes, budget: float, started: float) -> Costs:
    """Time a few steps at every image side, evaluation and saving; ``started`` is when the budget began."""
    job, state = _trial(prepared, processes)
    task = prepared.task
    first: dict[int, int] = {}  # epoch of the trial's plan at which each side comes up
    for epoch in range(prepared.plan.epochs):
        first.setdefault(task.image_side(epoch / prepared.plan.epochs), epoch)
    limit = min(TRIAL_S, budget / 100)
    steps = {side: _step_seconds(job, state, epoch, limit) for side, epoch in first.items()}
    last = prepared.plan.epochs - 1
    per_epoch, at_end = task.evaluated_images
    share = 1 / processes.world
    epoch_end = per_epoch * share * _forward_seconds(job, state, last, prepared.machine.dtype)
    final = at_end * share * _forward_seconds(job, state, last, torch.float32)
    save = _save_seconds(prepared, state, processes)
    return Costs(step=steps, epoch_end=epoch_end + 3 * save, final=final, fixed=time.perf_counter() - started)


def _stretched(config: RunConfig, intended: Plan[Any], length: Length, total_steps: int) -> RunConfig:
    """The configuration with this length; warm-up and milestones keep their share of the ``intended`` run."""
    share = total_steps / intended.total_steps
    return replace(
        config,
        epochs=length.epochs,
        repeats=length.repeats,
        steps=None,
        min_steps=0,
        warmup_epochs=config.warmup_epochs * length.epochs / intended.epochs,
        milestones=tuple(max(1, round(step * share)) for step in config.milestones),
    )


def within_time(prepared: Prepared, processes: Processes) -> Prepared:
    """The run, prepared again with the length that fits into its configuration's ``time``.

    Raises UserError if the time is too short for one epoch.
    """
    config = prepared.plan.config
    started, budget = time.perf_counter(), seconds_of(config.time)
    trial = prepared.again(replace(config, epochs=TRIAL_EPOCHS, steps=None, repeats=1, min_steps=0))
    costs = measure(trial, processes, budget, started)
    length = longest(costs, trial.task.image_side, trial.task.steps_for, budget)
    length = processes.from_main(length)
    assert isinstance(length, Length)
    total = length.epochs * trial.task.steps_for(length.repeats)
    final = prepared.again(_stretched(config, prepared.plan, length, total))
    sides = ", ".join(f"{seconds:.2g} s a step at {side} px" for side, seconds in sorted(costs.step.items()))
    passes = "" if length.repeats == 1 else f" of {length.repeats} passes"
    note = (
        f"time {config.time}: measured {sides}; {length.epochs} epochs{passes} take about {duration(length.seconds)}, "
        "evaluation and report included"
    )
    return replace(final, notes=(note,))
