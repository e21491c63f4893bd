"""``ran resume RUN``."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from .arguments import parse

DESCRIPTION = """Go on with a run where its last checkpoint stands, bit for bit.

With --epochs or --steps a finished run is extended; the schedule then spans the new length."""


@dataclass(frozen=True)
class ResumeArguments:
    run: tyro.conf.Positional[Path]
    """RUN: the run folder to go on with."""
    epochs: int | None = None
    """New number of epochs in all."""
    steps: int | None = None
    """New number of steps in all."""
    workers: int | None = None
    """Processes that decode large images; any number gives the same weights."""
    device: str | None = None
    """auto | cpu | cuda | cuda:N | mps; the run's own by default."""
    json: bool = False
    """Print one JSON object at the end and nothing else to standard output."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(ResumeArguments, argv, prog="ran resume", description=DESCRIPTION)
    for name in ("epochs", "steps"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    from ..training.run import resume

    summary = resume(
        given.run,
        epochs=given.epochs,
        steps=given.steps,
        workers=given.workers,
        device=given.device,
        json=given.json,
        debug=given.debug,
    )
    if given.json:
        print(json.dumps(summary))
    return 0
