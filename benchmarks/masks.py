"""The cost of recording masks during a prediction: one image at 224 px, Attention-56, interleaved.

python benchmarks/masks.py [--out results/benchmark_masks.json]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from record import write_record
from residual_attention import create_model, record_masks
from residual_attention.attention.readings import look

ROUNDS = 30


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--network", default="attention56")
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = create_model(given.network).eval().to(memory_format=torch.channels_last)
    image = torch.randn(1, 3, given.size, given.size).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict() -> object:
        return model(image).softmax(1)

    @torch.inference_mode()
    def with_masks() -> object:
        with record_masks(model) as found:
            return model(image).softmax(1), dict(found.masks)

    @torch.inference_mode()
    def with_reduced_masks() -> object:
        with record_masks(model) as found:
            probabilities = model(image).softmax(1)
        return probabilities, {name: mask.mean(dim=1) for name, mask in found.masks.items()}

    ways = {
        "predict": predict,
        "predict_again": predict,  # the difference between two equal calls: the noise
        "with_masks": with_masks,
        "with_masks_reduced": with_reduced_masks,
        "with_class_gradients": lambda: look(model, image),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for call in ways.values():
            call()
    for _ in range(ROUNDS):
        for name, call in ways.items():
            times[name].append(timed(call))
    result = {
        "network": given.network,
        "image_size_px": given.size,
        "batch": 1,
        "seed": 0,
        "rounds": ROUNDS,
        "median_ms": {name: round(1e3 * statistics.median(values), 2) for name, values in times.items()},
        "ratio_to_predict": {
            name: round(statistics.median(v / p for v, p in zip(values, times["predict"], strict=True)), 3)
            for name, values in times.items()
        },
    }
    write_record(result, given.out)


if __name__ == "__main__":
    main()
