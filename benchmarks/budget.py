"""What each choice of the recipe ``budget`` is worth at equal minutes of one core, without the test split.

    python benchmarks/budget.py --cifar10 DIR [--minutes 25] [--seeds 3] [--only NAME ...]
    python benchmarks/budget.py --list

Every cell is ``ran train cifar10 --recipe budget`` with one change. A training step is timed once for every network and
image side, in seconds of one core, and recorded. The length of a cell follows from that: neither a busy machine nor the
order of the cells decides how long it trains. The error is that of a tenth of the training images, which take no part
in training or in choosing the epoch (``--folds 10 --fold 1``). A cell that the file holds is not run again; several
commands may fill one file.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from record import add_cell, command_of, recorded_cells
from residual_attention import create_model
from residual_attention.atomic import write_atomically
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.interval import student_half_width
from residual_attention.classification.plan import default_model
from residual_attention.classification.recipes import recipe
from residual_attention.data.augment import progressive_size
from residual_attention.devices import DTYPES, resolve_precision
from residual_attention.training.budget import Costs, Length, longest
from residual_attention.training.optimization import build_optimizer

SIDE, CLASSES = 32, 10
TRAINED = 40_500  # images of a cell: 50,000 less a tenth for the error, less a tenth of the rest for validation
FOLDS = ("--folds", "10", "--fold", "1")
TIMED_STEPS = 6

CHANGES: dict[str, dict[str, Any]] = {
    "base": {},
    "attention56_cifar": {"model": "attention56_cifar"},
    "attention92_cifar_wide": {"model": "attention92_cifar_wide"},
    "attention56_cifar_wide_nopool": {"model": "attention56_cifar_wide_nopool"},
    "rate 0.1": {"lr": 0.1},
    "rate 0.4": {"lr": 0.4},
    "rate 0.1, decay 1e-3": {"lr": 0.1, "weight_decay": 1e-3},
    "rate 0.2, decay 2.5e-4": {"weight_decay": 2.5e-4},
    "rate 0.4, decay 2.5e-4": {"lr": 0.4, "weight_decay": 2.5e-4},
    "cosine": {"schedule": "cosine"},
    "no cutout": {"cutout": 0},
    "full size throughout": {"progressive": 1.0},
    "steps of 4 px": {"progressive_multiple": 4},
    "cropped, not resized": {"progressive_by": "crop"},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "no averaged weights": {"ema": 0.0},
    "random flip": {"alternate_flip": False},
    "zeros as padding": {"padding": "zeros"},
}


def step_seconds(name: str, side: int, batch_size: int) -> float:
    """Median seconds of one core that a training step takes."""
    torch.set_num_threads(1)
    model = create_model(name, CLASSES).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, recipe("budget", "cifar10"))
    device = torch.device("cpu")
    dtype = DTYPES[resolve_precision("auto", device)]
    images = torch.randn(batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch_size,))
    taken = []
    for _ in range(TIMED_STEPS + 1):
        started = time.process_time()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model(images)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.process_time() - started)
    return round(statistics.median(taken[1:]), 4)


class Clock:
    """Step times by network and side, measured where the file has none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def costs(self, name: str, sides: set[int], batch_size: int) -> dict[int, float]:
        with FileLock(f"{self.path}.lock"):
            known = json.loads(self.path.read_text()) if self.path.is_file() else {}
            for side in sides:
                key = f"{name}, {side} px, batch {batch_size}"
                if key not in known:
                    known[key] = step_seconds(name, side, batch_size)
            write_atomically(self.path, (json.dumps(known, indent=1) + "\n").encode())
        return {side: known[f"{name}, {side} px, batch {batch_size}"] for side in sides}


def length_of(config: TrainConfig, clock: Clock, minutes: float) -> Length:
    name = config.model or default_model(SIDE, "budget")
    least = create_model(name, CLASSES).min_size

    def side_at(progress: float) -> int:
        return progressive_size(SIDE, config.progressive, progress, least, config.progressive_multiple)

    steps = clock.costs(name, {side_at(share / 100) for share in range(100)}, config.batch_size)
    costs = Costs(step=steps, epoch_end=0.0, final=0.0, fixed=0.0)
    return longest(costs, side_at, lambda repeats: repeats * TRAINED // config.batch_size, 60 * minutes)


def flags_of(change: dict[str, Any]) -> list[str]:
    flags: list[str] = []
    for key, value in change.items():
        flag = key.replace("_", "-")
        flags += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return flags


def run_cell(cifar10: Path, change: dict[str, Any], seed: int, length: Length, warmup: float) -> dict[str, Any]:
    """Train, and return the error on the held-out fold; raises SystemExit where the command fails."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        options = ["--epochs", str(length.epochs), "--repeats", str(length.repeats), "--min-steps", "0"]
        options += ["--warmup-epochs", f"{warmup:.4g}", "--seed", str(seed), "--workers", "0"]
        command = [sys.executable, "-m", "residual_attention", "train", "cifar10", "--data-dir", str(cifar10)]
        command += ["--recipe", "budget", *FOLDS, *options, *flags_of(change), "--out", str(run), "--json"]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
        )
        if done.returncode:
            raise SystemExit(f"`{shlex.join(command)}` failed")
        summary = json.loads((run / "summary.json").read_text())
    return {
        "error_pct": summary["test"]["error_pct"],
        "images": summary["test"]["images"],
        "val_error_pct": summary["val"]["error_pct"],
        "epochs": length.epochs,
        "repeats": length.repeats,
        "core_seconds_planned": round(length.seconds, 1),
    }


def summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean error of every change, and its difference from the base, paired by seed, with a 95 % interval."""
    errors: dict[tuple[float, str], dict[int, float]] = {}
    for cell in cells:
        errors.setdefault((cell["minutes"], cell["change"]), {})[cell["seed"]] = cell["error_pct"]
    rows = []
    for (minutes, change), by_seed in errors.items():
        base = errors.get((minutes, "base"), {})
        differences = [error - base[seed] for seed, error in by_seed.items() if seed in base and change != "base"]
        n = len(differences)
        half = student_half_width(statistics.stdev(differences), n) if n > 1 else None
        rows.append(
            {
                "minutes": minutes,
                "change": change,
                "n": len(by_seed),
                "error_pct": round(statistics.mean(by_seed.values()), 3),
                "difference_points": round(statistics.mean(differences), 3) if differences else None,
                "interval_half_width_95": None if half is None else round(half, 3),
            }
        )
    return rows


def with_summary(clock: Clock, result: dict[str, Any]) -> dict[str, Any]:
    return {"step_core_seconds": json.loads(clock.path.read_text()), "summary": summary(result["cells"])}


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--minutes", type=float, default=25.0, help="of training on one core, a cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="list the changes and end")
    parser.add_argument("--out", type=Path, default=Path("results/budget_ablation.json"))
    given = parser.parse_args(argv)
    if not given.list and given.cifar10 is None:
        parser.error("--cifar10 DIR is needed")
    return given


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    given = parsed(argv)
    if given.list:
        return say("\n".join(f"{name}: {shlex.join(flags_of(change)) or '-'}" for name, change in CHANGES.items()))
    clock = Clock(given.out.with_suffix(".clock.json"))
    command = command_of("budget.py", sys.argv[1:] if argv is None else argv)
    base = recipe("budget", "cifar10")
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for name in given.only:
            key = (name, seed, given.minutes)
            if key in {(cell["change"], cell["seed"], cell["minutes"]) for cell in recorded_cells(given.out)}:
                continue
            config = replace(base, **CHANGES[name])
            length = length_of(config, clock, given.minutes)
            warmup = base.warmup_epochs * length.epochs / (base.epochs or 1)
            found = run_cell(given.cifar10, CHANGES[name], seed, length, warmup)
            cell = {"change": name, "seed": seed, "minutes": given.minutes, **found}
            add_cell(given.out, cell, command, partial(with_summary, clock))
            say(f"{name}, seed {seed}: {found['error_pct']:.2f} % after {length.epochs} epochs")


if __name__ == "__main__":
    main()
