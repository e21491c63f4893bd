"""Runs small enough for tests: real data, a thin network of the family."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual_attention.training.config import TrainConfig


@pytest.fixture
def tiny_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """96 digits, batches of 16, a thin Attention-56: six steps an epoch."""

    def make(**changes) -> TrainConfig:
        defaults = {
            "data": "digits",
            "limit_train": 96,
            "batch_size": 16,
            "epochs": 2,
            "lr": 0.05,
            "widths": (16, 16, 16),
            "mask_depths": (1, 1, 1),
            "t": 1,
            "warmup_epochs": 0.5,
            "ema": 0.9,
            "rotation": 5.0,
            "cutout": 4,
            "dropout": 0.1,
            "precision": "fp32",
            "workers": 0,
            "out": tmp_path / "run",
            "json": True,
        }
        return TrainConfig(**{**defaults, **changes})

    return make


def write_image_folder(root: Path, classes: int = 2, each: int = 12, size: int = 80) -> Path:
    """Coloured noise, a hue a class, as PNG files in class folders."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 160, (size, size, 3), dtype=np.uint8)
            pixels[..., label % 3] += 95
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return root
