"""Images/s of CIFAR-size training on a GPU: kernel by kernel, as CUDA graphs, and compiled, interleaved in one run.

    python benchmarks/training_gpu.py [--rounds 5] [--compile] [--out results/benchmark_training_gpu.json]

Synthetic images of 32 px through the package's own steps, with the recipe *modern*: mixup, cutout, averaged weights. A
round is at least ``--seconds`` of steps; the first of each way is not counted. ``first_step_s`` is what recording, or
the compiler, costs once.
"""

import argparse
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from record import write_record
from residual_attention.classification.recipes import modern
from residual_attention.classification.task import ENTRY, prepare_on
from residual_attention.training.run import Started, begin
from residual_attention.training.step import Step, train_step
from training import made_dataset

WAYS: dict[str, dict[str, Any]] = {
    "kernel by kernel": {"compile": "off", "cuda_graphs": "off"},
    "CUDA graphs": {"compile": "off", "cuda_graphs": "on"},
    "compiled": {"compile": "on", "cuda_graphs": "off"},
}


class Way:
    def __init__(self, run: Started) -> None:
        self.job, self.state = run.job, run.state
        self.job.forward.train()
        self.epoch = 0

    def steps(self, seconds: float) -> float:
        """Images/s over ``seconds``, or a single step for 0. Each step is read one step late, as in training."""
        started, images, before = time.perf_counter(), 0, None
        while True:
            for batch in self.job.task.batches(self.epoch, 0):
                step: Step = train_step(self.job, self.state, batch)
                self.state.progress.step += 1
                images += len(batch)
                if before is not None:
                    before.read()
                before = step
                if time.perf_counter() - started >= seconds:
                    step.read()
                    return images / (time.perf_counter() - started)
            self.epoch += 1


def measured(model: str, batch_size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Every way of one network and batch size, in turn."""
    dataset = made_dataset(32 * batch_size)
    entry = replace(ENTRY, prepare=partial(prepare_on, dataset))
    config = replace(modern("cifar10"), model=model, batch_size=batch_size, device=given.device, min_steps=0, json=True)
    chosen = {name: way for name, way in WAYS.items() if name != "compiled" or given.compile}
    found: dict[str, dict[str, Any]] = {name: {"rounds": []} for name in chosen}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        ways = {}
        for name, way in chosen.items():
            run = stack.enter_context(begin(replace(config, **way, out=Path(folder) / name), entry))
            ways[name] = Way(run)
            started = time.perf_counter()
            ways[name].steps(0)
            found[name]["first_step_s"] = round(time.perf_counter() - started, 1)
            ways[name].steps(given.seconds)
        for _ in range(given.rounds):
            for name, each in ways.items():
                found[name]["rounds"].append(each.steps(given.seconds))
    for row in found.values():
        rounds = row.pop("rounds")
        row["images_per_s"] = round(statistics.median(rounds))
        row["min_max"] = [round(min(rounds)), round(max(rounds))]
    return {"model": model, "batch_size": batch_size, "ways": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["attention56_cifar_wide", "attention92_cifar"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too; a minute or two a row")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [measured(model, size, given) for model in given.models for size in given.batch_sizes]
    on_gpu = torch.cuda.is_available() and given.device != "cpu"
    about = {"gpu": torch.cuda.get_device_name() if on_gpu else None, "rounds": given.rounds, "seed": 0}
    write_record({"what": "training, 32 px, recipe modern", **about, "rows": rows}, given.out)


if __name__ == "__main__":
    main()
