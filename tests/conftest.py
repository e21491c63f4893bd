"""Small runs and synthetic images for the whole suite; no test touches the network or the user's cache."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
from PIL import Image

from residual_attention.classification.config import TrainConfig
from residual_attention.classification.results import ClassificationOutcome


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest tests first, so that no worker is still busy with one when the others are done."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache folder for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RAN_DATA", str(folder))
    return folder


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch) -> None:
    """Pictures are most of a small run's time: a test draws its runs' only when it is marked ``drawn``.

    The fixture `finished` is a run with all of its pictures.
    """
    if "drawn" not in request.keywords:
        monkeypatch.setattr(ClassificationOutcome, "draw", lambda *_: {})


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


@pytest.fixture(scope="session")
def write_image_folder() -> Callable[..., Path]:
    """A factory for class folders of PNG files: coloured noise, one hue per class."""

    def write(root: Path, classes: int = 2, each: int = 12, size: int = 80, mode: str = "RGB") -> Path:
        rng = np.random.default_rng(0)
        for label in range(classes):
            folder = root / f"class{label:02d}"
            folder.mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 160, (size, size, 3), dtype=np.uint8)
                pixels[..., label % 3] += 95
                Image.fromarray(pixels).convert(mode).save(folder / f"{i}.png")
        return root

    return write


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A complete run on real digits with a thin network: the main path, once."""
    from residual_attention.tasks import train

    out = tmp_path_factory.mktemp("runs") / "digits"
    config = TrainConfig(
        data="digits",
        epochs=5,
        batch_size=64,
        lr=0.1,
        widths=(32, 32, 64),
        mask_depths=(1, 1, 1),
        t=1,
        out=out,
        precision="fp32",
        json=True,
    )
    train(config)
    return out
