"""Whether bf16 trains as well as fp32: loss curves of both over several seeds, on the embedded digits.

    python benchmarks/precision.py [--seeds 3] [--epochs 6] [--out results/precision_digits.json]

Each seed trains attention56_cifar twice, in fp32 and in this machine's half precision, with everything else equal. The
difference between the mean training losses of an epoch is given in standard deviations between seeds; below 2 is noise.
"""

import argparse
import csv
import json
import shlex
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from residual_attention.allocator import keep_freed_memory
from residual_attention.classification.recipes import quick
from residual_attention.devices import provenance, resolve_device
from residual_attention.tasks import train


def curve(precision: str, seed: int, epochs: int, folder: Path) -> tuple[list[float], float]:
    """Training loss per epoch, and the final validation error in percent."""
    out = folder / f"{precision}{seed}"
    config = replace(quick("digits"), epochs=epochs, min_steps=0, batch_size=64, ema=0.0, seed=seed)
    summary = train(replace(config, precision=precision, out=out, json=True))
    rows = csv.DictReader((out / "metrics.csv").read_text().splitlines())
    return [float(row["train_loss"]) for row in rows], summary["val"]["error_pct"]


def compare(curves: dict[str, list[list[float]]]) -> list[dict[str, float]]:
    """Per epoch: both means, and their difference, also in standard deviations between seeds."""
    rows = []
    for full, half in zip(zip(*curves["fp32"], strict=True), zip(*curves["bf16"], strict=True), strict=True):
        spread = ((statistics.variance(full) + statistics.variance(half)) / 2) ** 0.5
        difference = statistics.mean(half) - statistics.mean(full)
        means = {"fp32": round(statistics.mean(full), 4), "bf16": round(statistics.mean(half), 4)}
        rows.append({**means, "difference": round(difference, 4), "deviations": round(difference / spread, 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    keep_freed_memory()
    curves: dict[str, list[list[float]]] = {"fp32": [], "bf16": []}
    errors: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            for precision in curves:
                losses, error = curve(precision, seed, given.epochs, Path(folder))
                curves[precision].append([round(loss, 4) for loss in losses])
                errors[precision].append(round(error, 2))
                print(precision, seed, curves[precision][-1], f"validation error {error:.2f} %", flush=True)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "seeds": given.seeds,
        "by_epoch": compare(curves),
        "curves": curves,
        "val_error_pct": errors,
        **provenance(resolve_device("auto")),
    }
    print(json.dumps(result["by_epoch"], indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
