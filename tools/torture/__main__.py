"""Run the parts one by one and write the report."""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from residual_attention.devices import hardware, versions

from .parts import Part, Task

PARTS = ("flips", "faults", "kills", "signals", "load", "malformed", "parsers", "fuzz", "cluster")
MODULES = {"signals": "kills", "malformed": "suites", "parsers": "suites"}
REPORT = Path("results/torture.json")


def _part(name: str) -> Part:
    return getattr(import_module(f".{MODULES.get(name, name)}", __package__), name)


def _run(name: str, task: Task) -> tuple[dict[str, object], int]:
    """A part's entry in the report, and its number of failures."""
    with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
        tallies = _part(name)(replace(task, folder=Path(folder), started=time.monotonic()))
    entry = {kind: tally.to_dict() for kind, tally in tallies.items()}
    tried, failed = (sum(n) for n in zip(*((t.tried, len(t.failures)) for t in tallies.values()), strict=True))
    seconds = round(time.monotonic() - task.started, 1)
    print(f"{name:<10} {tried:>6} tried, {failed} failed, {seconds:.0f} s", flush=True)
    for kind, tally in tallies.items():
        for failure in tally.failures[:3]:
            print(f"    {kind}: {failure}", flush=True)
    return {"seconds": seconds, "tried": tried, "failed": failed, "kinds": entry}, failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--size", type=float, default=1.0, help="share of the full counts (default 1)")
    parser.add_argument("--seconds", type=float, default=86_400, help="time limit of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=REPORT, help="the report; other parts in it are kept")
    given = parser.parse_args()
    known = json.loads(given.out.read_text())["parts"] if given.out.is_file() else {}
    total = 0
    for name in given.parts:
        task = Task(given.size, given.seconds, Path(), given.seed)
        entry, failed = _run(name, task)
        total += failed
        import torch

        about = {
            "size": given.size,
            "seconds_limit": given.seconds,
            "date": time.strftime("%Y-%m-%d"),
            "hardware": hardware(torch.device("cpu")),
            "versions": versions(),
        }
        known[name] = entry | about
        ordered = {part: known[part] for part in PARTS if part in known}
        given.out.write_text(json.dumps({"command": "python -m tools.torture", "parts": ordered}, indent=2) + "\n")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
