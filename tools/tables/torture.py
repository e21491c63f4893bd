"""What was tried against the package, from ``results/torture.json``."""

from .markdown import read, table

TITLES = {
    "flips": "one bit flipped in a checkpoint, a hub folder or a run's files",
    "faults": "a failing system call, or the power gone, in a save",
    "kills": "SIGKILL, then the same command again",
    "signals": "SIGTERM, then the same command again",
    "load": "requests of 16 clients to the demo and to the endpoint; hostile requests",
    "malformed": "malformed input, over every command",
    "parsers": "properties of the parsers (Hypothesis)",
    "fuzz": "inputs from coverage-guided fuzzing (atheris)",
    "cluster": "ranks killed, a node lost, jobs interrupted",
}


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
        rows.append([title, *found])
    return table(["attack", "tried", "failed", "took"], rows)
