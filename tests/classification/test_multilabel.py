"""Several labels an image: training, thresholds, answers, masks and exports."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from residual_attention import load
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.evaluate import evaluate_model
from residual_attention.classification.judging import SEVERAL_LABELS
from residual_attention.classification.multilabel import average_precisions, best_thresholds, multilabel_measures
from residual_attention.classification.threshold import choose_threshold
from residual_attention.cli.main import main
from residual_attention.errors import UserError
from residual_attention.tasks import report, resume, train
from residual_attention.training.loop import NonFiniteError

LABELS = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> Path:
    """72 pictures of 24 px: each has a patch of up to three colours, whose names are its labels."""
    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(72):
        pixels = rng.integers(0, 60, (24, 24, 3), dtype=np.uint8)
        chosen = [k for k in range(3) if (i % 8) >> k & 1]
        for k in chosen:
            x, y = rng.integers(0, 16, 2)
            pixels[y : y + 8, x : x + 8, 2 - k] = 250
        Image.fromarray(pixels).save(folder / f"{i}.png")
        split = "train" if i < 40 else ("val", "test")[(i // 8) % 2]
        rows.append([f"{i}.png", ";".join(LABELS[k] for k in chosen), split])
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "labels", "split"], *rows])
    return folder / "list.csv"


def config(listed: Path, out: Path, **changes) -> TrainConfig:
    defaults = {
        "data": str(listed),
        "model": "attention56_cifar",
        "image_size": 24,
        "batch_size": 20,
        "epochs": 8,
        "lr": 0.05,
        "widths": (16, 16, 16),
        "mask_depths": (1, 1, 1),
        "t": 1,
        "precision": "fp32",
        "workers": 0,
        "out": out,
        "json": True,
    }
    return TrainConfig(**{**defaults, **changes})


@pytest.fixture(scope="module")
def run(listed, tmp_path_factory) -> Path:
    """A run of 16 steps with class weights, label smoothing and mixup."""
    out = tmp_path_factory.mktemp("multilabel") / "run"
    train(config(listed, out, class_weights=True, label_smoothing=0.05, mixup=0.2))
    return out


def test_a_run_is_judged_by_map_and_never_by_error(run):
    summary = json.loads((run / "summary.json").read_text())
    assert "error" not in json.dumps(summary)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    best = max(rows, key=lambda row: (float(row["val_map_pct"]), int(row["epoch"])))
    assert int(best["epoch"]) == summary["best_epoch"]
    found = evaluate_model(str(run), split="val")
    assert found["mean_ap_pct"] == pytest.approx(summary["val"]["mean_ap_pct"])
    print(summary["val"], summary["test"])
