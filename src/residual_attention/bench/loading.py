"""The cost of reading and augmenting training data: CIFAR-size batches in memory, and a folder of JPEGs."""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.files import file_transform
from ..data.loading import TrainingData
from ..data.preprocess import Preprocess
from ..data.samples import FileSamples, TensorSamples
from ..data.strengths import Augment
from ..devices import usable_cores
from .timing import Timing, interleaved

CIFAR_BATCH, CIFAR_IMAGES = 128, 1280
JPEGS, JPEG_SIZE, JPEG_BATCH = 512, (500, 375), 32  # about ImageNet's mean size
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cifar_batches(device: torch.device) -> TrainingData:
    """Synthetic images of CIFAR's size with the usual augmentation: padded crops, flips, cutout."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (CIFAR_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    samples = TensorSamples(images, torch.randint(0, 10, (CIFAR_IMAGES,), generator=generator))
    preprocess = Preprocess(32, "crop", mean=MEAN, std=STD)
    return TrainingData(
        samples=samples,
        preprocess=preprocess,
        augment=Augment(flip=True, crop_padding=4, cutout=8),
        num_classes=10,
        batch_size=CIFAR_BATCH,
        seed=0,
        device=device,
    )


def batch_against_step(step: Callable[[], object], device: torch.device, rounds: int) -> dict[str, Timing]:
    """Timings of ``loading`` one batch and of one training ``step`` on a batch of the same size."""
    data = cifar_batches(device)
    state: dict[str, Any] = {"epoch": 0, "batches": data.epoch(0)}

    def load() -> None:
        batch = next(state["batches"], None)
        if batch is None:
            state["epoch"] += 1
            state["batches"] = data.epoch(state["epoch"])
            next(state["batches"])

    return interleaved({"loading": load, "step": step}, rounds=rounds, device=device)


def write_jpegs(folder: Path, count: int = JPEGS) -> list[Path]:
    """Smooth synthetic photographs, quality 90; their size on disk is close to ImageNet's."""
    draw = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        image = np.asarray(coarse.resize(JPEG_SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
        grain = draw.normal(0, 6, image.shape)
        path = folder / f"{number:04d}.jpg"
        Image.fromarray((image + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def _decode_alone(paths: list[Path]) -> int:
    """A worker's job for one file, without handing over the result."""
    from ..data.images import read_image

    torch.set_num_threads(1)
    transform = file_transform(Augment(), Preprocess(224, "crop", mean=MEAN, std=STD))
    for path in paths:
        transform(read_image(path, 3))
    return len(paths)


def jpeg_speeds(device: torch.device, rounds: int) -> dict[str, Timing]:
    """Seconds per image: ``decoders`` is each core decoding independently, ``loader`` the batches for training.

    Both decode, crop and resize; the loader also transfers, collates, flips and normalises, on the same cores. The
    first round starts the processes of both and is not counted.
    """
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(cores) as pool:
        paths = write_jpegs(Path(folder))
        shares = [paths[i::cores] for i in range(cores)]
        labels = torch.zeros(len(paths), dtype=torch.int64)
        preprocess = Preprocess(224, "crop", mean=MEAN, std=STD)
        data = TrainingData(
            samples=FileSamples(tuple(paths), labels),
            preprocess=preprocess,
            augment=Augment(flip=True),
            num_classes=10,
            batch_size=JPEG_BATCH,
            seed=0,
            device=device,
            workers=cores,
        )
        found: dict[str, list[float]] = {"decoders": [], "loader": []}
        for number in range(rounds + 1):
            start = time.perf_counter()
            list(pool.map(_decode_alone, shares))
            middle = time.perf_counter()
            images = sum(len(batch.images) for batch in data.epoch(number))  # whole epochs: each fills the pipeline
            if number:
                found["decoders"].append((middle - start) / len(paths))
                found["loader"].append((time.perf_counter() - middle) / images)
    return {name: Timing(seconds) for name, seconds in found.items()}
