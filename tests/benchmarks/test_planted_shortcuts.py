"""The benchmark of `ran audit`: what it plants, what it counts as found, and a run in two parts on noise."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from residual_attention.audit.spots import COLOURS, FRAME_SPOT, PATCHES, STRIPS
from residual_attention.data.samples import TensorSamples

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import planted_shortcuts

    return planted_shortcuts


@pytest.mark.parametrize("kind", ["corner mark", "frame", "tint", "caption"])
def test_a_shortcut_is_in_most_images_of_one_class_and_lies_where_it_says(benchmark, kind):
    noise = torch.randint(100, 150, (50, 3, 32, 32), dtype=torch.uint8)
    samples = TensorSamples(noise.clone(), torch.arange(50) % 10)
    planted = benchmark.plant(kind, 3, [samples])
    changed = (samples.images != noise).any(dim=1)
    with_any = changed.any(dim=2).any(dim=1)
    assert with_any.sum() == 4
    assert set(samples.labels[with_any].tolist()) == {planted.label}
    if kind != "tint":
        assert not changed[:, ~benchmark.planted_pixels(planted)].any()


def test_found_means_the_right_spot(benchmark):
    samples = TensorSamples(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.arange(10))
    right = {"corner mark": PATCHES, "frame": [FRAME_SPOT], "tint": [COLOURS], "caption": STRIPS}
    classes = [str(k) for k in range(10)]
    for kind, spots in right.items():
        planted = benchmark.plant(kind, 5, [samples])

        class Suspected:
            label = str(planted.label)

        named = [
            spot
            for spot in (*PATCHES, *STRIPS, FRAME_SPOT, COLOURS)
            if benchmark.is_right(planted, classes, Suspected, spot)
        ]
        assert set(named) & set(spots)
        assert (COLOURS in named) == (kind == "tint")
        Suspected.label = str((planted.label + 1) % 10)
        assert not any(benchmark.is_right(planted, classes, Suspected, spot) for spot in spots)


@pytest.mark.slow
def test_two_parts_are_merged_and_not_run_again(benchmark, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        images = rng.integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
        labels, classes = np.arange(120) % 10, np.array([f"class {k}" for k in range(10)])
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels, classes=classes)
    out = tmp_path / "found.json"
    small = ["--train-each", "6", "--test-each", "12", "--epochs", "1", "--networks", "2", "--out", str(out)]
    for part in ("1/2", "2/2", "1/2"):
        benchmark.main(["--cifar10", str(tmp_path), *small, "--part", part, "--device", "cpu"])
    assert capsys.readouterr().err.count('"seed"') == 2
    benchmark.main([*small, "--merge"])
    record = json.loads(out.read_text())
    assert [cell["kind"] for cell in record["cells"]] == ["corner mark", None]
    assert record["summary"]["recall"]["of"] == record["summary"]["false_alarms"]["of"] == 1
