"""COCO's figures from faster-coco-eval, called directly and through torchmetrics: time and agreement.

python benchmarks/average_precision.py [--images 72] [--rounds 5]

As many images and boxes as BCCD's test split, 100 predictions per image, one true box in twenty a crowd. The time is
CPU time, interleaved. It excludes garbage collection, whose cost depends on whatever else the process holds.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchmetrics.detection import MeanAveragePrecision

from residual_attention.boxes.annotations import Box, Picture, Pictures
from residual_attention.detection.measures import COCO_FIGURES, Detections, coco_average_precision
from residual_attention.devices import hardware, versions

CLASSES = ("Platelets", "RBC", "WBC")
SHARES = (0.1, 0.8, 0.1)
WIDTH, HEIGHT = 640, 480
FOUND = 100
Figures = dict[str, float | None]


def made_split(count: int, rng: np.random.Generator) -> tuple[Pictures, list[Detections]]:
    pictures, found = [], []
    for i in range(count):
        number = int(rng.integers(6, 22))
        corners = np.stack([rng.uniform(0, WIDTH - 131, number), rng.uniform(0, HEIGHT - 131, number)], axis=1)
        boxes = np.concatenate([corners, corners + rng.uniform(15, 130, (number, 2))], axis=1)
        labels = rng.choice(len(CLASSES), number, p=SHARES)
        crowds = rng.random(number) < 0.05
        truth = [
            Box(CLASSES[label], *map(float, box), ignored=bool(crowd))
            for box, label, crowd in zip(boxes, labels, crowds, strict=True)
        ]
        pictures.append(Picture(Path(f"{i}.jpg"), tuple(truth), WIDTH, HEIGHT))
        chosen = np.arange(FOUND) % number
        near = boxes[chosen] + rng.normal(0, 6, (FOUND, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        scores = np.sort(rng.random(FOUND))[::-1].copy()
        told = np.where(rng.random(FOUND) < 0.9, labels[chosen], rng.integers(0, len(CLASSES), FOUND))
        found.append(
            Detections(torch.tensor(near, dtype=torch.float32), torch.tensor(scores).float(), torch.tensor(told))
        )
    return Pictures(tuple(pictures), CLASSES), found


def by_torchmetrics(samples: Pictures, found: list[Detections], *, exact: bool) -> Figures:
    """``exact`` replaces its thresholds with COCO's, in double precision."""
    thresholds = {
        "iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(),
        "rec_thresholds": np.linspace(0, 1, 101).tolist(),
    }
    metric = MeanAveragePrecision(backend="faster_coco_eval", **(thresholds if exact else {}))
    truths = (samples.truth(i) for i in range(len(samples)))
    metric.update(
        [{"boxes": one.boxes, "scores": one.scores, "labels": one.labels} for one in found],
        [{"boxes": boxes, "labels": labels, "iscrowd": ignored.long()} for boxes, labels, ignored in truths],
    )
    result = metric.compute()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
    return {ours: 100 * float(result[name]) for ours, name in zip(COCO_FIGURES, names, strict=True)}


def furthest(one: Figures, other: Figures) -> float:
    return max(abs(a - b) for a, b in zip(one.values(), other.values(), strict=True) if a is not None and b is not None)


def timed(call: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    start = time.process_time()
    call()
    taken = time.process_time() - start
    gc.enable()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=72)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    samples, found = made_split(given.images, np.random.default_rng(0))
    ours = coco_average_precision(samples, found)
    ways = {
        "ours": lambda: coco_average_precision(samples, found),
        "torchmetrics": lambda: by_torchmetrics(samples, found, exact=False),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for call in ways.values():
        call()
    for _ in range(given.rounds):
        for name, call in ways.items():
            times[name].append(timed(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    told = {
        "images": given.images,
        "rounds": given.rounds,
        "processor_time_s": {name: float(f"{value:.3g}") for name, value in medians.items()},
        "torchmetrics_times_ours": round(medians["torchmetrics"] / medians["ours"], 2),
        "largest_difference_points": furthest(ours, by_torchmetrics(samples, found, exact=False)),
        "largest_difference_points_same_thresholds": furthest(ours, by_torchmetrics(samples, found, exact=True)),
        "hardware": hardware(torch.device("cpu")),
        "versions": versions(),
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
