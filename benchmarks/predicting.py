"""Photos classified a second, against decoding them alone; interleaved.

- *decoding*: reading and resizing in one thread, as *sequential* does.
- *sequential*: decode a batch, run it in PyTorch, and so on: what `ran predict` did before it chose an engine.
- *torch*: threads decode ahead while PyTorch runs.
- *first*: the engine that `ran predict` chooses, compiled within the time measured (the cache is emptied).
- *again*: the same with the compiled network in the cache.
- *whole batches*: that engine with a batch as one request on all threads: what `ran predict` did before it gave each
  image a request of its own.
- *network*: the engine's network alone, on images that are decoded already.

python benchmarks/predicting.py MODEL FOLDER [--images 1000] [--rounds 3] [--out results/benchmark_predicting.json]
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from record import write_record
from residual_attention import load
from residual_attention.checkpoints import Classifier
from residual_attention.checkpoints.classifier import TrainedNetwork
from residual_attention.classification.predict import predict
from residual_attention.classification.views import class_probabilities
from residual_attention.data.find import find_images
from residual_attention.data.images import read_image
from residual_attention.export.engine import OPENVINO, CompiledNetwork, _cached, fastest

BATCH = 32


def decode(model: Classifier, paths: list[Path]) -> list[torch.Tensor]:
    return [model.preprocess(read_image(path, model.preprocess.in_chans)) for path in paths]


@torch.inference_mode()
def sequential(model: Classifier, paths: list[Path]) -> None:
    for start in range(0, len(paths), BATCH):
        model(torch.stack(decode(model, paths[start : start + BATCH]))).softmax(dim=1)


class WholeBatches(CompiledNetwork):
    """A batch as one request."""

    def with_likeness(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._queue.start_async([images.numpy()], 0)
        self._queue.wait_all()
        values = [torch.from_numpy(part) for part in self._found.pop(0)]
        return values[0], values[1] if len(values) > 1 else None


@torch.inference_mode()
def alone(network: Classifier, images: torch.Tensor) -> None:
    for batch in images.split(BATCH):
        class_probabilities(network, batch.contiguous(memory_format=torch.channels_last), "none")


def chosen(model: Classifier, paths: list[Path], engine: str = "auto") -> str:
    """Predict with the chosen engine; returns its name."""
    found = fastest(model, len(paths), engine).model
    predict(found, paths, batch_size=BATCH)
    return getattr(found, "engine", "torch")


def ratios(times: dict[str, list[float]], to: str) -> dict[str, float]:
    """Of each way's speed to the speed of the way ``to``: the median over the rounds."""
    return {
        name: round(statistics.median(other / own for own, other in zip(found, times[to], strict=True)), 3)
        for name, found in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = load(given.model)
    paths = list(itertools.islice(itertools.cycle(find_images([given.folder])), given.images))
    engines: set[str] = set()

    def first() -> None:
        with tempfile.TemporaryDirectory() as empty:
            os.environ["RAN_DATA"] = empty
            engines.add(chosen(model, paths))
        os.environ["RAN_DATA"] = cache

    ways: dict[str, Callable[[], object]] = {
        "decoding": lambda: decode(model, paths),
        "sequential": lambda: sequential(model, paths),
        "torch": lambda: chosen(model, paths, "torch"),
        "first": first,
        "again": lambda: engines.add(chosen(model, paths)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RAN_DATA"] = cache
        chosen(model, paths)  # fills the cache, and the file system's
        images, network = torch.stack(decode(model, paths)), fastest(model, len(paths)).model
        ways["network"] = lambda: alone(network, images)
        if getattr(network, "engine", "") == OPENVINO and isinstance(model, TrainedNetwork):
            before = WholeBatches(model, _cached(model))
            ways["whole batches"] = lambda: predict(before, paths, batch_size=BATCH)
        times |= {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, call in ways.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    result = {
        "model": model.card.model,
        "image_size_px": model.preprocess.image_size,
        "images": given.images,
        "files": len(set(paths)),
        "rounds": given.rounds,
        "engines": sorted(engines),
        "images_per_s": {name: round(given.images / statistics.median(found), 1) for name, found in times.items()},
        "ratio_to_decoding": ratios(times, "decoding"),
        "ratio_to_network": ratios(times, "network"),
    }
    write_record(result, given.out)


if __name__ == "__main__":
    main()
