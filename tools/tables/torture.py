"""What was tried against the package, from ``results/torture.json``."""

from collections.abc import Mapping
from typing import Any

from .markdown import read, table

TITLES = {
    "flips": "one bit flipped in a checkpoint, a hub folder or a run's files",
    "faults": "a failing system call, or the power gone, in a save",
    "kills": "runs killed (SIGKILL) up to three times, then the same command again",
    "signals": "SIGTERM, then the same command again",
    "load": "requests of 16 clients to the demo and to the endpoint; hostile requests",
    "malformed": "malformed input, over every command",
    "parsers": "properties of the parsers (Hypothesis)",
    "fuzz": "inputs from coverage-guided fuzzing (atheris)",
    "cluster": "ranks killed, a node lost, jobs interrupted",
}


def _kills(part: Mapping[str, Any]) -> int:
    """How often the runs of a part were killed: ``identical after 2 kills`` and how many of it."""
    outcomes = [item for kind in part["kinds"].values() for item in kind["outcomes"].items()]
    return sum(int(name.split()[-2]) * count for name, count in outcomes)


def counts() -> str:
    """One row per part that ran; the others are marked as not run."""
    result = read("torture")
    parts = {} if result is None else result["parts"]
    rows = []
    for name, title in TITLES.items():
        part = parts.get(name)
        found = (
            ["not run", "", ""]
            if part is None
            else [f"{part['tried']:,}", f"{part['failed']:,}", f"{part['seconds'] / 60:.0f} min, {part['date']}"]
        )
        if name == "kills" and part is not None:
            title = f"{title}: {_kills(part):,} kills"
        rows.append([title, *found])
    return table(["attack", "tried", "failed", "took"], rows)
