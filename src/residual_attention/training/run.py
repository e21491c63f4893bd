"""A run from its configuration to its report: `train` and `resume`."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoints.format import read_checkpoint
from ..data.datasets import Dataset, load_dataset
from ..data.loading import Shard, TrainingData, evaluation_batches
from ..machine import resolve_device
from .config import TrainConfig
from .distributed import Processes, process_group
from .interrupt import Interrupted, SignalWatch
from .loop import Job, fit
from .machine import Machine, resolve_machine
from .optimization import Schedule, averaged_model, build_optimizer
from .plan import Plan, augment_of, build_model, evaluation_batch_size, file_augment_of, make_plan
from .progress import ProgressDisplay
from .results import finish_run
from .runfolder import RunFolder, default_run_path, keep_out_of_data, open_run
from .state import TrainState, pack, unpack
from .writer import RunWriter


def train(config: TrainConfig) -> dict[str, Any]:
    """Train, evaluate and report as configured; returns the run's summary.

    Raises:
        ValueError: anything the user can mend, in one line.
        Interrupted: a signal stopped the run; it was saved before.
    """
    with _processes(config) as processes:
        machine = resolve_machine(config, processes.local_rank)
        dataset = _load_dataset(config, processes)
        plan = make_plan(config, dataset, machine)
        model, overrides, notices = build_model(plan, len(dataset.classes))
        path = processes.from_main(str(config.out or default_run_path(config.data, plan.model)))
        folder = RunFolder(Path(str(path)))
        keep_out_of_data(folder.path, config)
        plan = replace(plan, config=replace(plan.config, out=folder.path))
        if processes.is_main:
            folder.create()
        processes.barrier()
        dataset.notices.extend(notices)
        return _run(folder, plan, machine, processes, dataset, model, overrides, saved=None)


def resume(
    run: Path,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    json: bool = False,
    debug: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Go on with a run where its last checkpoint stands, bit for bit; or extend it with more epochs or steps.

    ``changes`` are configuration fields of the machine and of where the data lies, None for as it was: data, data_dir,
    workers, device, precision, compile, accumulate, grad_checkpointing. Another device, precision or accumulation
    goes on from the same state, but not bit for bit.

    Raises as `train`; also ValueError when the data set is no longer the same.
    """
    folder = open_run(run)
    tensors, metadata = read_checkpoint(folder.last)
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("grad_checkpointing") and metadata["config"].get("compile") == "on":
        given.setdefault("compile", "off")
    config = TrainConfig.from_dict({**metadata["config"], **given, "out": str(run), "json": json, "debug": debug})
    config = _extended(config, metadata, epochs, steps)
    with _processes(config) as processes:
        machine = resolve_machine(config, processes.local_rank)
        dataset = _load_dataset(config, processes)
        if dataset.classes != metadata["classes"] or len(dataset.train or ()) != metadata["train_images"]:
            raise ValueError(
                f"{config.data} has changed since {run} began: {len(dataset.train or ())} training images of "
                f"{len(dataset.classes)} classes now, {metadata['train_images']} of {len(metadata['classes'])} then"
            )
        plan = make_plan(config, dataset, machine)
        plan = replace(plan, config=replace(plan.config, init=None))  # the weights come from the checkpoint
        model, overrides, _ = build_model(plan, len(dataset.classes))
        plan = replace(plan, config=replace(plan.config, init=config.init))
        saved = (tensors, metadata["training"])
        return _run(folder, plan, machine, processes, dataset, model, overrides, saved)


def _extended(config: TrainConfig, metadata: dict, epochs: int | None, steps: int | None) -> TrainConfig:
    """The configuration with a later end. Raises ValueError for an end before what is done."""
    progress = metadata["training"]["progress"]
    if epochs is not None:
        if epochs < progress["epoch"]:
            raise ValueError(f"{progress['epoch']} epochs are done already; --epochs must be more, not {epochs}")
        return replace(config, epochs=epochs, steps=None, min_steps=0)
    if steps is not None:
        if steps < progress["step"]:
            raise ValueError(f"{progress['step']} steps are done already; --steps must be more, not {steps}")
        return replace(config, steps=steps)
    return config


@contextlib.contextmanager
def _processes(config: TrainConfig) -> Iterator[Processes]:
    with process_group(resolve_device(config.device).type) as processes:
        yield processes


def _load_dataset(config: TrainConfig, processes: Processes) -> Dataset:
    """Rank 0 goes first where something may be downloaded, so that it is downloaded once."""
    downloads = config.data_dir is None and config.data in ("cifar10", "cifar100")
    if downloads and not processes.is_main:
        processes.barrier()
    dataset = load_dataset(config)
    if downloads and processes.is_main:
        processes.barrier()
    return dataset


def prepared_forward(model: nn.Module, machine: Machine, processes: Processes) -> nn.Module:
    """The model as the loop calls it."""
    if processes.world > 1:
        ids = [machine.device.index] if machine.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
    return torch.compile(model) if machine.compile else model  # type: ignore[return-value]


def _training_data(plan: Plan, machine: Machine, processes: Processes, dataset: Dataset) -> TrainingData:
    config = plan.config
    if config.batch_size < processes.world * config.accumulate:
        raise ValueError(f"batch_size {config.batch_size} is too small for {processes.world} processes")
    assert dataset.train is not None
    return TrainingData(
        samples=dataset.train,
        preprocess=dataset.preprocess,
        augment=augment_of(config),
        num_classes=len(dataset.classes),
        batch_size=config.batch_size,
        seed=config.seed,
        device=machine.device,
        files=file_augment_of(config),
        balanced=config.balanced_sampling,
        repeats=config.repeats or 1,
        workers=machine.workers,
        shard=Shard(processes.rank, processes.world),
    )


def _class_weights(config: TrainConfig, dataset: Dataset, device: torch.device) -> torch.Tensor | None:
    """Inverse class frequency, 1 on average over the images; (K,)."""
    if not config.class_weights or dataset.train is None:
        return None
    counts = torch.bincount(dataset.train.labels, minlength=len(dataset.classes)).float()
    return (len(dataset.train) / (len(dataset.classes) * counts.clamp(min=1))).to(device)


def initial_state(model: nn.Module, plan: Plan, machine: Machine) -> TrainState:
    layout = torch.channels_last if machine.channels_last else torch.contiguous_format
    model.to(machine.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, plan.config)
    schedule = Schedule(optimizer, plan.config, plan.total_steps, plan.steps_per_epoch)
    scaler = torch.amp.GradScaler("cuda") if machine.precision == "fp16" else None
    return TrainState(model, optimizer, schedule, averaged_model(model, plan.config.ema), scaler)


def _board(folder: RunFolder, processes: Processes, dataset: Dataset, config: TrainConfig, step: int) -> Any:
    if not processes.is_main:
        return None
    from .tensorboard import TensorBoard

    signed = config.mask_activation == "channel"
    return TensorBoard(folder.tensorboard, dataset.preprocess, purge_step=step or None, signed=signed)


def _watched_images(dataset: Dataset, device: torch.device) -> torch.Tensor | None:
    """The first few validation images, whose masks TensorBoard follows; (B, C, S, S)."""
    if dataset.val is None or len(dataset.val) == 0:
        return None
    batches = evaluation_batches(dataset.val, dataset.preprocess, batch_size=min(8, len(dataset.val)), device=device)
    return next(iter(batches)).images


def _say_start(display: ProgressDisplay, plan: Plan, machine: Machine, dataset: Dataset, state: TrainState) -> None:
    for notice in dataset.notices:
        display.say(f"note: {notice}")
    sizes = {name: len(split) for name in ("train", "val", "test") if (split := getattr(dataset, name)) is not None}
    images = ", ".join(f"{count} {name}" for name, count in sizes.items())
    millions = sum(p.numel() for p in state.model.parameters()) / 1e6
    display.say(
        f"{dataset.name}: {images} images of {len(dataset.classes)} classes, {dataset.preprocess.image_size} px"
    )
    display.say(
        f"{plan.model} ({millions:.2f} M parameters), recipe {plan.config.recipe}: {plan.epochs} epochs, "
        f"{plan.total_steps} steps of {plan.config.batch_size}; {machine}"
    )


def _run(
    folder: RunFolder,
    plan: Plan,
    machine: Machine,
    processes: Processes,
    dataset: Dataset,
    model: nn.Module,
    overrides: dict,
    saved: tuple[dict, dict] | None,
) -> dict[str, Any]:
    config = plan.config
    state = initial_state(model, plan, machine)
    state.progress.planned_steps = plan.total_steps
    data = _training_data(plan, machine, processes, dataset)
    if saved is not None:
        unpack(state, *saved)
        data.skipped.update(state.progress.unreadable)
        _reopen(state, plan)
    describe = {
        "model": plan.model,
        "overrides": overrides,
        "classes": dataset.classes,
        "preprocess": dataset.preprocess.to_dict(),
        "config": config.to_dict(),
        "train_images": len(data.samples),
    }
    lock = folder.locked() if processes.is_main else contextlib.nullcontext()
    display = ProgressDisplay(
        quiet=config.json or not processes.is_main, total_steps=plan.total_steps, first_step=state.progress.step
    )
    with lock, SignalWatch() as signals, display:
        if processes.is_main:
            folder.write_text(folder.config, config.to_yaml())
            _say_start(display, plan, machine, dataset, state)
        board = _board(folder, processes, dataset, config, state.progress.step)
        watched = _watched_images(dataset, machine.device) if processes.is_main else None
        if board is not None and watched is not None and saved is None:
            board.graph(state.model, watched)
        writer = RunWriter(
            folder, config, processes, display, describe, plan.epochs, board, watched, skipped=data.skipped
        )
        if saved is None:
            tensors, _ = pack(state)
            folder.check_space(sum(t.numel() * t.element_size() for t in tensors.values()) * 3)
            writer.save(state)
        else:
            display.say(f"going on after step {state.progress.step} of {plan.total_steps}")
        job = Job(
            config=config,
            machine=machine,
            processes=processes,
            data=data,
            validation=_validation(config, dataset, machine, processes),
            forward=prepared_forward(state.model, machine, processes),
            epochs=plan.epochs,
            total_steps=plan.total_steps,
            class_weights=_class_weights(config, dataset, machine.device),
            signals=signals,
        )
        with _explained_memory(config):
            stopped = fit(job, state, writer)
            if stopped:
                signum = processes.largest(signals.received)
                raise Interrupted(
                    signum, f"stopped after step {state.progress.step}, saved; go on with `ran resume {folder.path}`"
                )
            return finish_run(job, state, writer, dataset, plan)


def _reopen(state: TrainState, plan: Plan) -> None:
    """A finished run goes on only where its end was moved; then early stopping counts anew."""
    progress = state.progress
    if progress.finished and progress.planned_steps != plan.total_steps:
        progress.finished = progress.step >= plan.total_steps and progress.step_in_epoch == 0
        progress.epochs_without_gain = 0
    progress.planned_steps = plan.total_steps


def _validation(config: TrainConfig, dataset: Dataset, machine: Machine, processes: Processes):
    if dataset.val is None or len(dataset.val) == 0:
        return None
    return partial(
        evaluation_batches,
        dataset.val,
        dataset.preprocess,
        batch_size=evaluation_batch_size(config, processes.world),
        device=machine.device,
        workers=machine.workers,
        shard=Shard(processes.rank, processes.world),
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """The GPU's, Python's, or the CPU allocator's, which is a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "alloc" in str(error) and "memory" in str(error)


@contextlib.contextmanager
def _explained_memory(config: TrainConfig) -> Iterator[None]:
    """Out of memory, on the GPU or in main memory, becomes a line that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ValueError(
            f"out of memory at batch size {config.batch_size}, {config.image_size} px: lower --batch-size, or set "
            f"--accumulate {2 * config.accumulate} or --grad-checkpointing"
        ) from error
