"""`ran train FOLDER` beside timm's ResNet-18 in the same minutes, from ``results/own_photos.json``."""

import statistics
from typing import Any

from .markdown import machine, read, table

Cells = list[dict[str, Any]]
SETS = {
    "flowers": "flowers, 5 classes of 40 photos",
    "cells": "blood cells, 3 classes",
    "cifar100-10x50": "CIFAR-100, 10 classes of 50",
    "cifar100-10x100": "CIFAR-100, 10 classes of 100",
    "cifar100-10x500": "CIFAR-100, 10 classes of 500",
}


def _error(cells: Cells) -> str:
    """The mean error over seeds with its range, or of one seed with the interval that its test images allow."""
    if not cells:
        return "not run"
    errors = [cell["error_pct"] for cell in cells]
    low, high = (min(errors), max(errors)) if len(errors) > 1 else cells[0]["interval_95_pct"]
    return f"{statistics.mean(errors):.1f} [{low:.1f}, {high:.1f}]"


def same_minutes() -> str:
    record = read("own_photos")
    if record is None:
        return "Not run."
    by: dict[tuple[str, str], Cells] = {}
    for cell in record["cells"]:
        by.setdefault((cell["folder"], cell["who"]), []).append(cell)
    others = sorted({who for _, who in by if who != "ours"}, key=lambda who: -int(who.split()[1]))
    rows = []
    for folder, title in SETS.items():
        ours = by.get((folder, "ours"), [])
        if ours:
            minutes = statistics.median(cell["minutes"] for cell in ours)
            memory = max(cell["peak_gib"] for cell in ours)
            figures = [f"{ours[0]['images']:,}", f"{minutes:.1f}", f"{memory:.1f}", _error(ours)]
            rows.append([title, *figures, *(_error(by.get((folder, who), [])) for who in others)])
    seeds = max(len(cells) for cells in by.values())
    brackets = "the range over seeds" if seeds > 1 else "95 % intervals over test images"
    header = ["images", "tested", "minutes", "GiB", "`ran train FOLDER`", *(f"timm's {who}" for who in others)]
    note = (
        f"Test error in %, {seeds} seed{'s' if seeds > 1 else ''}; in brackets, {brackets}. Both are trained and\n"
        "tested on the same images. Ours starts from the weights that ship, timm's from random weights, because\n"
        f"its pretrained weights could not be downloaded. {machine(record)}.\n"
        "`python benchmarks/own_photos.py`"
    )
    return f"{table(header, rows)}\n\n{note}"
