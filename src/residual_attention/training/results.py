"""The end of any run: what its summary says of it, and its last lines."""

import time
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.format import read_checkpoint
from ..checkpoints.load import model_weights
from ..devices import hardware, versions
from .loop import Job
from .plan import Plan
from .progress import duration, rate_text
from .state import TrainState
from .writer import RunWriter


def run_facts(job: "Job", state: "TrainState", plan: "Plan", run: Path) -> dict[str, Any]:
    """What a summary tells of any run: what was trained, for how long, on what."""
    progress, config = state.progress, plan.config
    images_seen = job.processes.total([float(progress.images_seen)])[0]
    return {
        "run": str(run),
        "status": "early_stopped" if progress.step < plan.total_steps else "done",
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
        "hardware": hardware(job.machine.device),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }


def load_best(state: "TrainState", writer: "RunWriter") -> torch.nn.Module:
    """The network in eval mode with the weights of the best epoch."""
    tensors, _ = read_checkpoint(writer.folder.best)
    state.model.load_state_dict(model_weights(tensors))
    return state.model.eval()


def say_where(writer: "RunWriter", summary: dict[str, Any], use: str) -> None:
    """The last lines of any run: how long it took, where everything lies, the command ``use`` for what comes next."""
    say, folder = writer.display.say, writer.folder
    trained = f"{duration(summary['time_s'])} of training, {rate_text(summary['images_per_s'])} images/s"
    say(f"best epoch {summary['best_epoch']}, {trained}")
    say(f"report      {folder.report}")
    say(f"model       {folder.best}")
    say(f"use it      {use} {folder.path} IMAGE...")
    say(f"dashboard   tensorboard --logdir {folder.path.parent}")
