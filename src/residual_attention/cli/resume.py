"""``ran resume RUN``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ..errors import UserError
from .arguments import parse

DESCRIPTION = """Resume a run from its last checkpoint, bit for bit.

--epochs or --steps extends a finished run; the schedule then spans the new length."""


@dataclass(frozen=True)
class ResumeArguments:
    run: tyro.conf.Positional[Path]
    """The run folder to resume."""
    epochs: int | None = None
    """New total number of epochs."""
    steps: int | None = None
    """New total number of steps."""
    data: str | None = None
    """New location of the image folder; unchanged by default."""
    data_dir: Path | None = None
    """New location of the named data set."""
    workers: int | None = None
    """Processes that decode large images; any number gives the same weights."""
    device: str | None = None
    """auto | cpu | cuda | cuda:N | mps; the run's own by default. Another one continues, but not bit for bit."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    """The run's own by default; another one continues, but not bit for bit."""
    compile: Literal["auto", "on", "off"] | None = None
    """torch.compile; the run's own setting by default."""
    accumulate: int | None = None
    """Split each batch into this many parts to save memory."""
    grad_checkpointing: bool | None = None
    """Recompute activations in the backward pass to save memory."""
    track: Literal["wandb", "mlflow", "trackio"] | None = None
    """Also log to this tracker; if the run already has a record there, it is continued."""
    json: bool = False
    """Print one JSON object at the end and nothing else to standard output."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(ResumeArguments, argv, prog="ran resume", description=DESCRIPTION)
    for name in ("epochs", "steps"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    from ..tasks import resume

    summary = resume(
        given.run,
        epochs=given.epochs,
        steps=given.steps,
        data=given.data,
        data_dir=None if given.data_dir is None else str(given.data_dir),
        workers=given.workers,
        device=given.device,
        precision=given.precision,
        compile=given.compile,
        accumulate=given.accumulate,
        grad_checkpointing=given.grad_checkpointing,
        track=given.track,
        json=given.json,
        debug=given.debug,
    )
    if given.json:
        print(json.dumps(summary))
    return 0
