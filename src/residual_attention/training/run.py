"""A run from configuration to report: begin or reopen, train, finish."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.card import Card, read_card
from ..checkpoints.format import read_checkpoint
from ..data.workers import workers_end
from ..devices import resolve_device
from ..documents import blaming
from ..errors import UserError
from ..names import as_argument
from ..plugins import require
from .budget import within_time
from .config import RunConfig
from .distributed import Processes, process_group
from .interrupt import Interrupted, SignalWatch
from .loop import fit
from .machine import Machine, prepared_forward, resolve_machine
from .memory import explained_memory
from .plan import Plan
from .progress import ProgressDisplay
from .reopened import reopened_config
from .results import finish
from .runfolder import RunFolder, default_run_path, keep_out_of_data, open_run
from .same_run import check_same_run
from .state import TrainState, initial_state, pack, unpack
from .step import Job
from .task import Prepared, TaskEntry
from .tracking import open_tracker, require_tracker
from .writer import RunWriter


@dataclass(frozen=True)
class Started:
    """A run ready for its next step, with its resources open: the folder lock, the board, the signal handlers."""

    job: Job
    state: TrainState
    writer: RunWriter
    plan: Plan[Any]
    entry: TaskEntry


def train(config: RunConfig, entry: TaskEntry) -> dict[str, Any]:
    """Train, evaluate and report as configured; returns the run's summary.

    Raises:
        UserError: anything the user can fix, in one line.
        Interrupted: a signal stopped the run; it was saved first.
    """
    if config.resume == "auto":
        if config.out is None:
            raise UserError("--resume auto needs the run folder: add --out")
        if RunFolder(config.out).last.is_file():
            check_same_run(config, config.out)
            return resume(config.out, entry, json=config.json, debug=config.debug)
    with begin(config, entry) as run:
        return complete(run)


def resume(run: Path, entry: TaskEntry, **changes: Any) -> dict[str, Any]:
    """Resume a run from its last checkpoint, bit for bit, or extend it. Takes the arguments of `reopen`.

    Raises like `train`, and UserError if the data set has changed.
    """
    with reopen(run, entry, **changes) as reopened:
        return complete(reopened)


@contextlib.contextmanager
def begin(config: RunConfig, entry: TaskEntry) -> Iterator[Started]:
    """Start a new run in its own folder and write its first checkpoint."""
    if config.track is not None:
        require_tracker(config.track)
    with workers_end(), process_group(resolve_device(config.device).type) as processes:
        machine = _machine_for(config, processes)
        prepared = entry.prepare(config, machine, processes, None)
        if config.time is not None:
            prepared = within_time(prepared, processes)
        path = processes.from_main(str(config.out or default_run_path(config.data, prepared.plan.model)))
        folder = RunFolder(Path(str(path)))
        keep_out_of_data(folder.path, config)
        if processes.is_main:
            folder.create()
        processes.barrier()
        with _locked(folder, processes):
            if processes.is_main:
                folder.refuse_a_run()  # another process may have started and finished one meanwhile
            with _started(folder, prepared, processes, entry, None) as started:
                yield started


@contextlib.contextmanager
def reopen(
    run: Path,
    entry: TaskEntry,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    track: str | None = None,
    json: bool = False,
    debug: bool = False,
    **changes: Any,
) -> Iterator[Started]:
    """Reopen a run at its last checkpoint, or extend it to more ``epochs`` or ``steps``.

    ``changes`` override configuration fields of the machine and the data's location; None keeps the saved value: data,
    data_dir, workers, device, precision, compile, accumulate, grad_checkpointing. With another device, precision or
    accumulation the run continues from the same state, but not bit for bit.
    """
    folder = open_run(run)
    with workers_end(), process_group(_device_type(folder, changes)) as processes, _locked(folder, processes):
        processes.barrier()  # no process reads before the main one holds the lock
        tensors, header = read_checkpoint(folder.last)
        card = Card.from_header(header, folder.last)
        require(card.plugins, str(run))
        with blaming(f"{folder.last} is damaged, its training state cannot be used"):
            config = reopened_config(folder.last, card, entry, epochs, steps, changes)
        config = replace(config, out=run, track=track, json=json, debug=debug)
        machine = _machine_for(config, processes)
        prepared = entry.prepare(config, machine, processes, card)
        with _started(folder, prepared, processes, entry, (tensors, card)) as started:
            yield started


def complete(run: Started) -> dict[str, Any]:
    """Train to the end, evaluate the best weights, write the report. Raises Interrupted after a signal.

    During the evaluation and the drawings a signal ends the run at once: nothing is lost, and a resumed run does both.
    """
    with explained_memory(run.job.config):
        if fit(run.job, run.state, run.writer):
            signum = run.job.processes.largest(run.job.signals.received)
            where = f"stopped after step {run.state.progress.step} and saved"
            raise Interrupted(signum, f"{where}; continue with `ran resume {as_argument(run.writer.folder.path)}`")
        message = f"stopped in the final evaluation; `ran resume {as_argument(run.writer.folder.path)}` ends it"
        alone = run.job.processes.world == 1  # several processes wait for each other, so they go on to the end
        with run.job.signals.at_once(message) if alone else contextlib.nullcontext():
            return finish(run.job, run.state, run.writer, run.plan, run.entry)


def _device_type(folder: RunFolder, changes: dict[str, Any]) -> str:
    """The device type of a reopened run, which determines how its processes communicate."""
    device = changes.get("device") or read_card(folder.last).config.get("device", "auto")
    return resolve_device(device).type


def _machine_for(config: RunConfig, processes: Processes) -> Machine:
    if config.batch_size < processes.world * config.accumulate:
        raise UserError(f"batch_size {config.batch_size} is too small for {processes.world} processes")
    return resolve_machine(config, processes.local_rank)


def _locked(folder: RunFolder, processes: Processes) -> contextlib.AbstractContextManager[None]:
    return folder.locked() if processes.is_main else contextlib.nullcontext()


@contextlib.contextmanager
def _started(
    folder: RunFolder,
    prepared: Prepared,
    processes: Processes,
    entry: TaskEntry,
    saved: tuple[dict[str, torch.Tensor], Card] | None,
) -> Iterator[Started]:
    """Open everything the run needs; close it and flush TensorBoard however the run ends."""
    task, machine, plan = prepared.task, prepared.machine, prepared.plan
    state = initial_state(prepared.model, plan, machine)
    if saved is not None:
        tensors, card = saved
        assert card.training is not None
        with blaming(f"{folder.last} is damaged, its training state cannot be used"):
            unpack(state, tensors, dict(card.training))
            if not processes.is_main:  # the sums that were saved are those of all processes
                state.progress.forget_sums()
            task.skipped.update(state.progress.unreadable)
            _reopen(state, plan)
    quiet = plan.config.json or not processes.is_main
    display = ProgressDisplay(
        quiet=quiet, total_steps=plan.total_steps, first_step=state.progress.step, budget=plan.config.time
    )
    with SignalWatch() as signals, display, contextlib.ExitStack() as stack:
        writer = RunWriter(folder, plan.config, processes, display, task, plan.epochs, plan.total_steps)
        if processes.is_main:
            folder.write_text(folder.config, plan.config.to_yaml())
            for name, text in task.files().items():
                folder.write_text(folder.path / name, text)
            for line in (*task.introduction(state.model), *prepared.notes):
                display.say(line)
            writer.board = stack.enter_context(task.open_board(folder.tensorboard, state.progress.step or None))
            writer.watch_gradients(state)
            if plan.config.track is not None:
                shared = task.card.for_sharing().config
                writer.tracker = stack.enter_context(open_tracker(plan.config.track, folder.path, shared))
        if saved is None:
            _first_save(folder, state, writer)
        else:
            at = f"resuming after step {state.progress.step} of {plan.total_steps}"
            again = "training is finished: evaluating again and rewriting the report (--epochs N would extend the run)"
            display.say(again if state.progress.finished or state.progress.step >= plan.total_steps else at)
        forward = prepared_forward(state.model, machine, processes)
        job = Job(plan.config, machine, processes, task, forward, plan.epochs, plan.total_steps, signals)
        yield Started(job, state, writer, plan, entry)


def _first_save(folder: RunFolder, state: TrainState, writer: RunWriter) -> None:
    """Save a new run's checkpoint before its first step. Raises UserError without disk space for three."""
    if writer.board is not None:
        writer.board.start(state.model)
    tensors, _ = pack(state)
    folder.check_space(sum(t.numel() * t.element_size() for t in tensors.values()) * 3)
    writer.save(state)


def _reopen(state: TrainState, plan: Plan[Any]) -> None:
    """Continue a finished run only if its end was moved; early stopping then restarts its count."""
    progress = state.progress
    if progress.finished and progress.planned_steps != plan.total_steps:
        progress.finished = progress.step >= plan.total_steps and progress.step_in_epoch == 0
        progress.epochs_without_gain = 0
    progress.planned_steps = plan.total_steps
