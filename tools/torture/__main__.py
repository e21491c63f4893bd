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
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from residual_attention.devices import provenance

from .parts import SHOWN, Part, Task

PARTS = ("flips", "faults", "kills", "signals", "load", "malformed", "parsers", "fuzz", "cluster")
MODULES = {"signals": "kills", "malformed": "suites", "parsers": "suites"}
REPORT = Path("results/torture.json")


def _part(name: str) -> Part:
    return getattr(import_module(f".{MODULES.get(name, name)}", __package__), name)


def _run(name: str, task: Task) -> tuple[dict[str, Any], int]:
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


def _added(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The counts of both; what else is said is of the later."""
    kinds = dict(before["kinds"])
    for kind, found in now["kinds"].items():
        old = kinds.get(kind, {"tried": 0, "failed": 0, "outcomes": {}, "failures": []})
        outcomes = {name: old["outcomes"].get(name, 0) + n for name, n in found["outcomes"].items()}
        kinds[kind] = {
            "tried": old["tried"] + found["tried"],
            "failed": old["failed"] + found["failed"],
            "outcomes": {**old["outcomes"], **outcomes},
            "failures": [*old["failures"], *found["failures"]][:SHOWN],
        }
    sums = {name: round(before[name] + now[name], 1) for name in ("seconds", "tried", "failed")}
    return {**now, **sums, "kinds": kinds, "seeds": [*before.get("seeds", [0]), *now["seeds"]]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--size", type=float, default=1.0, help="share of the full counts (default 1)")
    parser.add_argument("--seconds", type=float, default=86_400, help="time limit of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--add", action="store_true", help="add to the counts that the report has, by another seed")
    parser.add_argument("--out", type=Path, default=REPORT, help="the report; other parts in it are kept")
    given = parser.parse_args()
    known = json.loads(given.out.read_text())["parts"] if given.out.is_file() else {}
    before = dict(known)
    for name in given.parts if given.add else ():
        if given.seed in before.get(name, {}).get("seeds", [0]):
            parser.error(f"{name} was run with seed {given.seed} already; choose another --seed to add to it")
    total = 0
    for name in given.parts:
        task = Task(given.size, given.seconds, Path(), given.seed)
        entry, failed = _run(name, task)
        total += failed
        import torch

        about = {
            "size": given.size,
            "seconds_limit": given.seconds,
            **provenance(torch.device("cpu")),
        }
        known[name] = entry | about | {"seeds": [given.seed]}
        if given.add and name in before:
            known[name] = _added(before[name], known[name])
        ordered = {part: known[part] for part in PARTS if part in known}
        given.out.write_text(json.dumps({"command": "python -m tools.torture", "parts": ordered}, indent=2) + "\n")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
