"""The end of a run: evaluate the best weights once on every split; write summary, pictures and report."""

from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoints.card import Card
from ..checkpoints.format import read_checkpoint
from ..checkpoints.load import model_weights
from ..devices import provenance
from ..names import as_argument
from .duration import duration
from .pictures import Attempts
from .plan import Plan
from .progress import rate_text
from .runfolder import RunFolder
from .state import TrainState
from .step import Job
from .task import Outcome, TaskEntry
from .writer import RunWriter


def run_facts(job: Job, state: TrainState, plan: Plan[Any], run: Path) -> dict[str, Any]:
    """The part of the summary common to all tasks: model, length, time, precision, hardware, versions."""
    progress, config = state.progress, plan.config
    images_seen = job.processes.total([float(progress.images_seen)])[0]
    return {
        "run": str(run),
        "status": "early_stopped" if progress.step < plan.total_steps else "done",
        "task": job.task.card.task,
        "model": plan.model,
        "seed": config.seed,
        "epochs": progress.epoch,
        "steps": progress.step,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "best_epoch": progress.best_epoch,
        "time_s": round(progress.train_time_s, 2),
        "images_per_s": round(images_seen / max(progress.train_time_s, 1e-9), 2),
        "precision": job.machine.precision,
        "processes": job.processes.world,
        "skipped_steps": progress.skipped_steps,
        **provenance(job.machine.device),
    }


def load_best(state: TrainState, best: Path) -> nn.Module:
    """The network in eval mode with the weights of the best epoch."""
    tensors, _ = read_checkpoint(best)
    state.model.load_state_dict(model_weights(tensors))
    return state.model.eval()


def _complete_card(folder: RunFolder, outcome: Outcome) -> None:
    """Write the best checkpoint again with its card completed, unless it is complete."""
    tensors, header = read_checkpoint(folder.best)
    card = Card.from_header(header, folder.best)
    if (completed := outcome.completed(card)) != card:
        folder.save(folder.best, tensors, completed)


def finish(job: Job, state: TrainState, writer: RunWriter, plan: Plan[Any], entry: TaskEntry) -> dict[str, Any]:
    """Evaluate the best weights, then write everything. Returns the summary on every process.

    The summary is written before the first picture is drawn.
    """
    folder = writer.folder
    outcome = job.task.evaluate(load_best(state, folder.best))
    summary = run_facts(job, state, plan, folder.path) | dict(outcome.figures)
    if writer.processes.is_main:
        _complete_card(folder, outcome)
        folder.write_summary(summary)
        failed = draw(writer, outcome, summary["steps"], entry)
        if failed:
            summary["undrawn"] = failed
            folder.write_summary(summary)
        _say_end(writer, outcome, summary, entry.predict_command)
    writer.processes.barrier()
    return summary


def draw(writer: RunWriter, outcome: Outcome, step: int, entry: TaskEntry) -> dict[str, str]:
    """Draw the pictures and write the report. Returns what failed, name -> why; a drawing never ends a run."""
    attempts = Attempts()
    pictures = outcome.draw(writer.folder, attempts)
    metrics = {f"final/{name}": value for name, value in outcome.final_metrics().items()}
    with attempts.attempt("the tracker's last figures"):
        if writer.tracker is not None:
            writer.tracker.finish(metrics, step)
    with attempts.attempt("TensorBoard"):
        if writer.board is not None:
            for tag, path in pictures.items():
                writer.board.picture(tag, path, step)
            writer.board.hyperparameters(writer.config.to_dict(), metrics, step)
    with attempts.attempt(writer.folder.report.name):
        entry.report(writer.folder.path)
    return attempts.failed


def _say_end(writer: RunWriter, outcome: Outcome, summary: dict[str, Any], predict_command: str) -> None:
    say, folder = writer.display.say, writer.folder
    trained = f"{duration(summary['time_s'])} of training, {rate_text(summary['images_per_s'])} images/s"
    for line in (
        *(f"warning: {name} could not be made ({why})" for name, why in summary.get("undrawn", {}).items()),
        *(
            [f"         the model is complete; `ran report {as_argument(folder.path)}` tries again"]
            if "undrawn" in summary
            else []
        ),
        "",
        *outcome.lines(),
        f"best epoch {summary['best_epoch']}, {trained}",
        f"report      {folder.report}",
        f"model       {folder.best}",
        f"use it      {predict_command} {as_argument(folder.path)} IMAGE...",
        f"dashboard   tensorboard --logdir {as_argument(folder.path.parent)}",
    ):
        say(line)
