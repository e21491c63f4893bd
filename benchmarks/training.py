"""Images/s of CIFAR-size training: eager NCHW fp32 against this machine's defaults, interleaved in one run.

    python benchmarks/training.py [--rounds 7] [--out results/benchmark_training.json]

Both train attention56_cifar (batch 128, 32 px, synthetic images, SGD) through the package's `train_step`, in turn, with
a few steps per round; the first round of each is not counted. The share of loading and augmentation is measured in the
same rounds, as the time between steps. The ratio is taken round by round; its median is reported.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from residual_attention.allocator import keep_freed_memory, release_freed_memory
from residual_attention.classification.recipes import quick
from residual_attention.classification.task import ENTRY, prepare_on
from residual_attention.data.datasets import Dataset
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.samples import TensorSamples
from residual_attention.devices import provenance
from residual_attention.training.run import Started, begin
from residual_attention.training.step import train_step

CIFAR_PREPROCESS = Preprocess(32, "crop", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))


def made_dataset(count: int) -> Dataset:
    """Random images of CIFAR's size; the time of a step does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    samples = TensorSamples(images, torch.randint(0, 10, (count,), generator=generator))
    return Dataset(
        name="made",
        classes=[str(i) for i in range(10)],
        train=samples,
        val=None,
        test=None,
        preprocess=CIFAR_PREPROCESS,
    )


class Contestant:
    """One way to train, ready to run steps."""

    def __init__(self, run: Started, settle: Callable[[], object]) -> None:
        self.job, self.state, self.task, self.settle = run.job, run.state, run.job.task, settle
        self.job.forward.train()
        self.epoch = 0

    def round(self) -> tuple[float, float]:
        """One pass over the synthetic images: images/s, and the share of time between steps."""
        between = 0.0
        started = last = time.perf_counter()
        for batch in self.task.batches(self.epoch, 0):
            between += time.perf_counter() - last
            train_step(self.job, self.state, batch)
            self.state.progress.step += 1
            last = time.perf_counter()
        self.epoch += 1
        elapsed = time.perf_counter() - started
        return self.task.steps_per_epoch * self.job.config.batch_size / elapsed, between / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds per contestant")
    parser.add_argument("--steps", type=int, default=4, help="steps of 128 images per round")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_training.json"))
    arguments = parser.parse_args()
    dataset = made_dataset(128 * arguments.steps)
    entry = replace(ENTRY, prepare=partial(prepare_on, dataset))
    config = replace(quick("cifar10"), model="attention56_cifar", min_steps=0, json=True)
    plain = replace(config, precision="fp32", channels_last="off", compile="off")
    with TemporaryDirectory() as folder, ExitStack() as stack:
        runs = {
            name: stack.enter_context(begin(replace(way, out=Path(folder) / name), entry))
            for name, way in (("eager_nchw_fp32", plain), ("defaults", config))
        }
        contestants = {
            "eager_nchw_fp32": Contestant(runs["eager_nchw_fp32"], release_freed_memory),  # torch, unmodified
            "defaults": Contestant(runs["defaults"], keep_freed_memory),  # as in all our commands
        }
        measure(contestants, arguments)


def measure(contestants: dict[str, Contestant], arguments: argparse.Namespace) -> None:
    """The rounds, and the record of them."""
    default = contestants["defaults"].job.machine
    for contestant in contestants.values():
        contestant.round()
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    shares: list[float] = []
    for number in range(arguments.rounds):
        for name, contestant in contestants.items():
            speed, share = contestant.round()
            speeds[name].append(speed)
            if name == "defaults":
                shares.append(share)
        print(f"round {number + 1}: " + ", ".join(f"{name} {s[-1]:.1f} images/s" for name, s in speeds.items()))
    ratios = [b / a for a, b in zip(speeds["eager_nchw_fp32"], speeds["defaults"], strict=True)]
    result = {
        "what": "training attention56_cifar, batch 128, 32 px, SGD, averaged weights",
        "defaults": str(default),
        "images_per_s": {name: round(statistics.median(s), 1) for name, s in speeds.items()},
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_min_max": [round(min(ratios), 2), round(max(ratios), 2)],
        "loading_and_augmentation_share_pct": round(100 * statistics.median(shares), 2),
        "rounds": arguments.rounds,
        "seed": 0,
        "command": shlex.join(["python", *sys.argv]),
        **provenance(default.device),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
