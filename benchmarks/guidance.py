"""What boxes bring to a classifier: `ran train --guide` with 0, 1, 10 and 100 % of the training images' boxes.

Two sets, both at 48 px. *cells*: crops of blood cells (BCCD), the cell anywhere in its crop. *planted*: CIFAR-10 images
of 24 px anywhere on a textured background; in training, validation and the test, nine in ten images have the texture of
their class, so that the background almost tells the class. In *swapped*, the same test images have another class's
texture: its error shows how far the network relies on the background.

Every cell is a network from scratch; its best epoch is chosen on validation. On the test images: error, and how much of
the map *class, combined* (and of Grad-CAM, where captum is installed) lies in the box of the object.

    python tools/voc_crops.py path/to/BCCD cells
    python benchmarks/guidance.py prepare --cells cells --cifar10 DIR --work work   # about 40 MB of images in work
    python benchmarks/guidance.py run --work work --out results/guidance.json [--part 1/4]
    python benchmarks/guidance.py merge --out results/guidance.json

Each part writes its own file beside OUT, and skips the cells that it holds already; ``merge`` joins them.
"""

import argparse
import json
import math
import random
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from residual_attention import load
from residual_attention.atomic import write_atomically
from residual_attention.attention.batches import boxed_batches
from residual_attention.attention.bootstrap import bootstrap
from residual_attention.attention.geometry import upsample
from residual_attention.attention.localisation import energy_in_box, pointing_hits
from residual_attention.attention.readings import combined, look, read
from residual_attention.checkpoints import Classifier
from residual_attention.classification.interval import student_half_width
from residual_attention.classification.recipes import quick
from residual_attention.classification.task import ENTRY
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.samples import TensorSamples
from residual_attention.devices import provenance, resolve_device
from residual_attention.training.loop import fit
from residual_attention.training.run import begin

SIDE, OBJECT = 48, 24  # px, of an image and of the object planted in it
USUAL = 0.9  # share of planted images with the background of their class
PERCENTS = (0, 1, 10, 100)
EPOCHS = {"cells": 12, "planted": 16}
KEY = ("data", "boxes_pct", "guide_weight", "seed")


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def prepare_cells(source: Path, out: Path) -> None:
    """Crops at `SIDE` px, with their boxes."""
    for split in ("train", "val", "test"):
        boxes = json.loads((source / split / "boxes.json").read_text())
        scaled = {}
        for name, found in boxes.items():
            with Image.open(source / split / name) as image:
                factors = (SIDE / image.width, SIDE / image.height) * 2
                save(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), out / split / name)
            scaled[name] = [[round(v * f, 2) for v, f in zip(box, factors, strict=True)] for box in found]
        (out / split / "boxes.json").write_text(json.dumps(scaled))


def texture(kind: int, rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: stripes of the class's direction and colour, with noise."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = math.pi * kind / 10
    wave = np.sin(2 * math.pi * (6 * (x * math.cos(angle) + y * math.sin(angle)) + rng.random()))
    hue = 0.5 + 0.5 * np.cos(2 * math.pi * (kind / 10 + np.array([0, 1 / 3, 2 / 3])))
    values = 128 + 50 * wave[..., None] * hue + 50 * (hue - 0.5) + rng.normal(0, 25, (SIDE, SIDE, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def plant(images: TensorSamples, classes: list[str], each: int, out: Path, *, seed: int, swapped: bool = False) -> None:
    """``each`` images of a class on backgrounds; ``swapped``: the same images and places, other classes' textures."""
    boxes = {}
    for label, name in enumerate(classes):
        for number in range(each):
            index = int((images.labels == label).nonzero()[number, 0])
            rng = np.random.default_rng([seed, label, number])
            top, left = rng.integers(0, SIDE - OBJECT + 1, 2).tolist()
            other = (label + int(rng.integers(1, 10))) % 10
            usual = rng.random() < USUAL
            canvas = Image.fromarray(texture(other if swapped or not usual else label, rng))
            small = Image.fromarray(images.images[index].permute(1, 2, 0).numpy())
            canvas.paste(small.resize((OBJECT, OBJECT), Image.Resampling.BILINEAR), (left, top))
            save(canvas, out / name / f"{number:04d}.jpg")
            boxes[f"{name}/{number:04d}.jpg"] = [left, top, left + OBJECT, top + OBJECT]
    (out / "boxes.json").write_text(json.dumps(boxes))


def prepare(given: argparse.Namespace) -> None:
    prepare_cells(given.cells, given.work / "cells")
    dataset = load_dataset(DataRequest(data="cifar10", data_dir=given.cifar10, val_fraction=0.0))
    assert isinstance(dataset.train, TensorSamples)
    assert isinstance(dataset.test, TensorSamples)
    backwards = torch.arange(len(dataset.train) - 1, -1, -1)
    planted = given.work / "planted"
    plant(dataset.train, dataset.classes, given.each, planted / "train", seed=0)
    plant(dataset.train.subset(backwards), dataset.classes, given.each // 5, planted / "val", seed=1)
    plant(dataset.test, dataset.classes, given.each // 5 * 2, planted / "test", seed=2)
    plant(dataset.test, dataset.classes, given.each // 5 * 2, given.work / "swapped" / "test", seed=2, swapped=True)
    for data in ("cells", "planted"):
        boxes = json.loads((given.work / data / "train" / "boxes.json").read_text())
        for percent in PERCENTS[1:]:
            kept = stratified(boxes, percent)
            (given.work / f"{data}_{percent}.json").write_text(json.dumps({f"train/{n}": boxes[n] for n in kept}))


def stratified(boxes: dict[str, Any], percent: int) -> list[str]:
    """The names of ``percent`` % of the images of each class, at least one; smaller shares are parts of larger ones."""
    kept = []
    for label in sorted({name.split("/")[0] for name in boxes}):
        names = sorted(name for name in boxes if name.startswith(f"{label}/"))
        random.Random(0).shuffle(names)
        kept += names[: max(1, len(names) * percent // 100)]
    return kept


def cells_of(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seeds are the outer loop: a stopped experiment has every arm equally often."""
    for seed in range(given.seeds):
        for data in given.data:
            for percent in given.percents:
                yield {"data": data, "boxes_pct": percent, "guide_weight": given.guide_weight, "seed": seed}


def trained(cell: dict[str, Any], given: argparse.Namespace) -> tuple[Classifier, dict[str, float]]:
    """The network of a cell, and its time."""
    name = "-".join(str(cell[key]) for key in KEY)
    out = given.work / "runs" / name
    shutil.rmtree(out, ignore_errors=True)
    guide = given.work / f"{cell['data']}_{cell['boxes_pct']}.json"
    config = replace(
        quick(str(given.work / cell["data"])),
        seed=cell["seed"],
        epochs=given.epochs or EPOCHS[cell["data"]],
        min_steps=0,
        lr=0.1,
        batch_size=64,
        ema=0.99,
        model="attention56_cifar",
        image_size=SIDE,
        device=given.device,
        compile="off",
        workers=0,
        guide=guide if cell["boxes_pct"] else None,
        guide_weight=cell["guide_weight"],
        out=out,
        json=True,
    )
    with begin(config, ENTRY) as run:
        if fit(run.job, run.state, run.writer):
            sys.exit(f"stopped by a signal; the cell {name} starts again next time")
        progress = run.state.progress
        row = progress.history[-1]
        figures = {"train_time_s": round(progress.train_time_s, 1), "steps": progress.step}
        kept = ("train_error_pct", "val_error_pct", "train_energy_inside")
        figures |= {key: round(row[key], 4) for key in kept if key in row}
    model = load(out, resolve_device(given.device))
    if not given.keep:
        shutil.rmtree(out)
    return model, figures


def maps_of(model: Classifier, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Maps of the predicted class, (B, S, S), and that class."""
    found, size = look(model, images), images.shape[-1]
    by_class = read(found, "class")
    maps = {"class, combined": combined(by_class, size), "class, last module": list(by_class.values())[-1]}
    try:
        from residual_attention.attention.peers import grad_cam

        maps["Grad-CAM"] = grad_cam(model, images, found.targets)  # type: ignore[arg-type]
    except ModuleNotFoundError:
        pass
    return {name: upsample(each.detach().float().cpu(), size, size) for name, each in maps.items()}, found.targets.cpu()


def evaluated(model: Classifier, folder: Path, *, maps: bool) -> dict[str, Any]:
    """Error in % and, with ``maps``, mean and interval over images of pointing game and energy in the box."""
    wrong: list[Tensor] = []
    values: dict[str, dict[str, list[Tensor]]] = {}
    for batch in boxed_batches(model, folder, folder / "boxes.json", limit=10**9):
        assert batch.boxes is not None
        if not maps:
            with torch.inference_mode():
                wrong.append((model(batch.images).argmax(dim=1) != batch.labels).cpu())
            continue
        found, targets = maps_of(model, batch.images)
        wrong.append(targets != batch.labels.cpu())
        for name, heat in found.items():
            of_map = values.setdefault(name, {"energy_in_box": [], "pointing_game": []})
            of_map["energy_in_box"].append(energy_in_box(heat, batch.boxes))
            of_map["pointing_game"].append(pointing_hits(heat, batch.boxes))
    figures = {
        name: {measure: vars(bootstrap(torch.cat(parts))) for measure, parts in of_map.items()}
        for name, of_map in values.items()
    }
    return {"error_pct": round(100 * torch.cat(wrong).double().mean().item(), 3), "maps": figures}


def run_cell(cell: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    model, figures = trained(cell, given)
    result = {**cell, **figures, **evaluated(model, given.work / cell["data"] / "test", maps=True)}
    if cell["data"] == "planted":
        result["swapped_error_pct"] = evaluated(model, given.work / "swapped" / "test", maps=False)["error_pct"]
    return result


def figures_of(cell: dict[str, Any]) -> dict[str, float]:
    found = {"error_pct": cell["error_pct"]}
    if "swapped_error_pct" in cell:
        found["swapped_error_pct"] = cell["swapped_error_pct"]
    for name, measures in cell["maps"].items():
        found |= {f"{name}: {measure}": value["mean"] for measure, value in measures.items()}
    return found


def interval(values: list[float]) -> dict[str, Any]:
    """Mean over seeds and 95 % interval of Student's t."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return {"mean": round(mean, 4), "n": 1}
    half = student_half_width(statistics.stdev(values), len(values))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4), "n": len(values)}


def summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each data set and share of boxes: every figure, and its difference to no boxes, paired by seed."""
    rows = []
    arms: dict[tuple[Any, ...], dict[int, dict[str, float]]] = {}
    for cell in cells:
        arms.setdefault((cell["data"], cell["boxes_pct"], cell["guide_weight"]), {})[cell["seed"]] = figures_of(cell)
    for (data, percent, weight), mine in sorted(arms.items()):
        plain = next((found for key, found in arms.items() if key[:2] == (data, 0)), {})
        both = sorted(mine.keys() & plain.keys())
        row: dict[str, Any] = {"data": data, "boxes_pct": percent, "guide_weight": weight}
        row |= {"figures": {}, "minus_no_boxes": {}}
        for figure in next(iter(mine.values())):
            row["figures"][figure] = interval([found[figure] for found in mine.values()])
            if percent and both:
                row["minus_no_boxes"][figure] = interval([mine[s][figure] - plain[s][figure] for s in both])
        rows.append(row)
    return rows


def part_path(out: Path, part: str) -> Path:
    number, count = part.split("/")
    return out.with_name(f"{out.stem}.part-{number}-of-{count}.json")


def run(given: argparse.Namespace) -> None:
    number, count = map(int, given.part.split("/"))
    path = part_path(given.out, given.part)
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"] if path.is_file() else []
    done = {tuple(cell[key] for key in KEY) for cell in cells}
    mine = [cell for i, cell in enumerate(cells_of(given)) if i % count == number - 1]
    for cell in mine:
        if tuple(cell[key] for key in KEY) in done:
            continue
        started = time.perf_counter()
        cells.append(run_cell(cell, given))
        record = {
            "command": shlex.join(["python", *sys.argv]),
            **provenance(resolve_device(given.device)),
            "image_size_px": SIDE,
            "epochs": {data: given.epochs or EPOCHS[data] for data in given.data},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps({**record, "cells": cells}, indent=1) + "\n").encode())
        last, seconds = cells[-1], time.perf_counter() - started
        energy = last["maps"]["class, combined"]["energy_in_box"]["mean"]
        print(
            f"{cell}: error {last['error_pct']:.2f} %, swapped {last.get('swapped_error_pct')}, "
            f"energy {energy:.3f}, {seconds:.0f} s",
            flush=True,
        )


def merge(given: argparse.Namespace) -> None:
    """Join the parts' files; a cell of an earlier merge that no part holds stays."""
    paths = sorted(given.out.parent.glob(f"{given.out.stem}.part-*.json"))
    parts = [json.loads(path.read_text()) for path in [*([given.out] if given.out.is_file() else []), *paths]]
    if not parts:
        sys.exit(f"no parts beside {given.out}")
    by_key = {tuple(cell[key] for key in KEY): cell for part in parts for cell in part["cells"]}
    cells = [by_key[key] for key in sorted(by_key)]
    result = {**parts[-1], "cells": cells, "summary": summary(cells)}
    write_atomically(given.out, (json.dumps(result, indent=1) + "\n").encode())
    for row in result["summary"]:
        shown = {name: value["mean"] for name, value in row["figures"].items()}
        print(row["data"], row["boxes_pct"], json.dumps(shown))


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("prepare")
    make.set_defaults(call=prepare)
    make.add_argument("--cells", type=Path, required=True, help="folder that tools/voc_crops.py wrote")
    make.add_argument("--cifar10", type=Path, help="CIFAR-10 folder; downloaded by default")
    make.add_argument("--work", type=Path, required=True)
    make.add_argument("--each", type=int, default=500, help="planted training images a class")
    train = commands.add_parser("run")
    train.set_defaults(call=run)
    train.add_argument("--work", type=Path, required=True)
    train.add_argument("--out", type=Path, default=Path("results/guidance.json"))
    train.add_argument("--part", default="1/1", help="i/n: every n-th cell from the i-th on")
    train.add_argument("--data", nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    train.add_argument("--percents", nargs="+", type=int, choices=PERCENTS, default=list(PERCENTS))
    train.add_argument("--seeds", type=int, default=3)
    train.add_argument("--epochs", type=int, help="of every cell; by default 12 on cells, 16 on planted")
    train.add_argument("--guide-weight", type=float, default=1.0)
    train.add_argument("--device", default="auto")
    train.add_argument("--keep", action="store_true", help="keep the networks in work/runs")
    join = commands.add_parser("merge")
    join.set_defaults(call=merge)
    join.add_argument("--out", type=Path, default=Path("results/guidance.json"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    given = parsed(argv)
    given.call(given)


if __name__ == "__main__":
    main()
