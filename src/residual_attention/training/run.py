"""A run from its configuration to its report: `train` and `resume`, of a classifier or of any other task."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoints.format import read_checkpoint
from ..classification.config import TrainConfig
from ..classification.task import prepare_classification
from ..devices import resolve_device
from ..errors import UserError
from .config import RunConfig
from .distributed import Processes, process_group
from .interrupt import Interrupted, SignalWatch
from .loop import Job, fit
from .machine import Machine, resolve_machine
from .optimization import Schedule, averaged_model, build_optimizer
from .plan import Plan
from .progress import ProgressDisplay
from .runfolder import RunFolder, default_run_path, keep_out_of_data, open_run
from .state import TrainState, pack, unpack
from .task import Prepare, Prepared
from .writer import RunWriter


def train(config: RunConfig, prepare: Prepare = prepare_classification) -> dict[str, Any]:
    """Train, evaluate and report as configured; returns the run's summary.

    Raises:
        UserError: anything the user can mend, in one line.
        Interrupted: a signal stopped the run; it was saved before.
    """
    with _processes(config) as processes:
        machine = resolve_machine(config, processes.local_rank)
        _check_batch(config, processes)
        prepared = prepare(config, machine, processes, None)
        path = processes.from_main(str(config.out or default_run_path(config.data, prepared.plan.model)))
        folder = RunFolder(Path(str(path)))
        keep_out_of_data(folder.path, config)
        if processes.is_main:
            folder.create()
        processes.barrier()
        return _run(folder, prepared, processes, saved=None)


def resume(
    run: Path,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    json: bool = False,
    debug: bool = False,
    prepare: Prepare = prepare_classification,
    kind: type[RunConfig] = TrainConfig,
    **changes: Any,
) -> dict[str, Any]:
    """Go on with a run where its last checkpoint stands, bit for bit; or extend it with more epochs or steps.

    ``kind`` and ``prepare`` are those of the run's task. ``changes`` are configuration fields of the machine and of
    where the data lies, None for as it was: data, data_dir, workers, device, precision, compile, accumulate,
    grad_checkpointing. Another device, precision or accumulation goes on from the same state, but not bit for bit.

    Raises as `train`; also ValueError when the data set is no longer the same.
    """
    folder = open_run(run)
    tensors, metadata = read_checkpoint(folder.last)
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("grad_checkpointing") and metadata["config"].get("compile") == "on":
        given.setdefault("compile", "off")
    config = kind.from_dict({**metadata["config"], **given, "out": str(run), "json": json, "debug": debug})
    config = _extended(config, metadata, epochs, steps)
    with _processes(config) as processes:
        machine = resolve_machine(config, processes.local_rank)
        _check_batch(config, processes)
        prepared = prepare(config, machine, processes, metadata)
        return _run(folder, prepared, processes, (tensors, metadata["training"]))


def _extended(config: RunConfig, metadata: dict, epochs: int | None, steps: int | None) -> RunConfig:
    """The configuration with a later end. Raises UserError for an end before what is done."""
    progress = metadata["training"]["progress"]
    if epochs is not None:
        if epochs < progress["epoch"]:
            raise UserError(f"{progress['epoch']} epochs are done already; --epochs must be more, not {epochs}")
        return replace(config, epochs=epochs, steps=None, min_steps=0)
    if steps is not None:
        if steps < progress["step"]:
            raise UserError(f"{progress['step']} steps are done already; --steps must be more, not {steps}")
        return replace(config, steps=steps)
    return config


@contextlib.contextmanager
def _processes(config: RunConfig) -> Iterator[Processes]:
    with process_group(resolve_device(config.device).type) as processes:
        yield processes


def _check_batch(config: RunConfig, processes: Processes) -> None:
    if config.batch_size < processes.world * config.accumulate:
        raise UserError(f"batch_size {config.batch_size} is too small for {processes.world} processes")


def prepared_forward(model: nn.Module, machine: Machine, processes: Processes) -> nn.Module:
    """The model as the loop calls it."""
    if processes.world > 1:
        ids = [machine.device.index] if machine.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
    return torch.compile(model) if machine.compile else model  # type: ignore[return-value]


def initial_state(model: nn.Module, plan: Plan, machine: Machine) -> TrainState:
    layout = torch.channels_last if machine.channels_last else torch.contiguous_format
    model.to(machine.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, plan.config)
    schedule = Schedule(optimizer, plan.config, plan.total_steps, plan.steps_per_epoch)
    scaler = torch.amp.GradScaler("cuda") if machine.precision == "fp16" else None
    return TrainState(model, optimizer, schedule, averaged_model(model, plan.config.ema), scaler)


def _run(
    folder: RunFolder,
    prepared: Prepared,
    processes: Processes,
    saved: tuple[dict, dict] | None,
) -> dict[str, Any]:
    task, machine = prepared.task, prepared.machine
    plan = replace(prepared.plan, config=replace(prepared.plan.config, out=folder.path))
    config = plan.config
    task.describe["config"] = config.to_dict()
    state = initial_state(prepared.model, plan, machine)
    state.progress.planned_steps = plan.total_steps
    if saved is not None:
        unpack(state, *saved)
        task.skipped.update(state.progress.unreadable)
        _reopen(state, plan)
    lock = folder.locked() if processes.is_main else contextlib.nullcontext()
    display = ProgressDisplay(
        quiet=config.json or not processes.is_main, total_steps=plan.total_steps, first_step=state.progress.step
    )
    with lock, SignalWatch() as signals, display:
        board = None
        if processes.is_main:
            folder.write_text(folder.config, config.to_yaml())
            for name, text in task.files().items():
                folder.write_text(folder.path / name, text)
            for line in task.introduction(state):
                display.say(line)
            board = task.open_board(folder.tensorboard, state.progress.step or None)
            if saved is None:
                board.start(state.model)
        writer = RunWriter(folder, config, processes, display, task, plan.epochs, board)
        if saved is None:
            tensors, _ = pack(state)
            folder.check_space(sum(t.numel() * t.element_size() for t in tensors.values()) * 3)
            writer.save(state)
        else:
            display.say(f"going on after step {state.progress.step} of {plan.total_steps}")
        forward = prepared_forward(state.model, machine, processes)
        job = Job(config, machine, processes, task, forward, plan.epochs, plan.total_steps, signals)
        with _explained_memory(config):
            stopped = fit(job, state, writer)
            if stopped:
                signum = processes.largest(signals.received)
                raise Interrupted(
                    signum, f"stopped after step {state.progress.step}, saved; go on with `ran resume {folder.path}`"
                )
            return task.finish(job, state, writer)


def _reopen(state: TrainState, plan: Plan) -> None:
    """A finished run goes on only where its end was moved; then early stopping counts anew."""
    progress = state.progress
    if progress.finished and progress.planned_steps != plan.total_steps:
        progress.finished = progress.step >= plan.total_steps and progress.step_in_epoch == 0
        progress.epochs_without_gain = 0
    progress.planned_steps = plan.total_steps


def _is_out_of_memory(error: BaseException) -> bool:
    """The GPU's, Python's, or the CPU allocator's, which is a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "alloc" in str(error) and "memory" in str(error)


@contextlib.contextmanager
def _explained_memory(config: RunConfig) -> Iterator[None]:
    """Out of memory, on the GPU or in main memory, becomes a line that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory at batch size {config.batch_size}: lower --batch-size or --image-size, or set "
            f"--accumulate {2 * config.accumulate} or --grad-checkpointing"
        ) from error
