"""``ran attend --measure``: every method on the same images, with bootstrap intervals."""

import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import write_atomically
from ..checkpoints import Classifier
from ..checkpoints.own_data import split_for
from ..data.images import read_image
from ..data.loading import evaluation_batches
from ..data.splits import evenly_spaced
from ..devices import DTYPES, device_of, hardware, resolve_precision, versions
from ..errors import UserError
from .faithfulness import BATCH, STEPS, replacement_auc
from .geometry import box_on_input
from .localisation import energy_in_box, pointing_hits, read_boxes
from .masks import masks_are_signed
from .measure_figure import draw_measures
from .methods import method_maps
from .readings import images_at_once
from .response import stage_responses
from .statistics import mask_statistics

RESAMPLES = 2000
MEASURES = {
    "deletion_auc": "deletion (lower is better)",
    "insertion_auc": "insertion (higher is better)",
    "pointing_game": "pointing game (higher is better)",
    "energy_in_box": "energy in the box (higher is better)",
}


def bootstrap(values: Tensor, seed: int = 0) -> dict[str, float]:
    """Mean of (N,) over images and its 95 % percentile interval from `RESAMPLES` resamples."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    means = values.double()[index].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"mean": values.double().mean().item(), "low": low, "high": high}


def _split_batches(
    model: Classifier, data: str, data_dir: Path | None, split: str, limit: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Preprocessed images and labels of a data set's split, evenly spaced over it."""
    _, samples, notices = split_for(model, data, split=split, data_dir=data_dir)
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)
    samples = samples.subset(evenly_spaced(len(samples), limit))
    at_once = images_at_once(model.preprocess.image_size)
    for batch in evaluation_batches(samples, model.preprocess, batch_size=at_once, device=device_of(model)):
        yield batch.images, batch.labels


def _boxed_batches(
    model: Classifier, folder: Path, boxes: Path, limit: int
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    """Images, labels and boxes on the network's square; images whose boxes the crop cuts away are left out."""
    entries = sorted(read_boxes(boxes).items())
    if not entries:
        raise UserError(f"{boxes} holds no boxes")
    device = device_of(model)
    images, labels, squares = [], [], []
    for i in evenly_spaced(len(entries), limit).tolist():
        name, given = entries[i]
        image = read_image(folder / name, model.preprocess.in_chans)
        on_input = [box_on_input(box, model.preprocess, *image.size) for box in given]
        visible = [box for box in on_input if box is not None]
        label = Path(name).parent.name
        if label not in model.classes:
            raise UserError(f"{boxes}: the folder of {name} is no class that the model knows")
        if not visible:
            continue
        images.append(model.preprocess(image))
        labels.append(model.classes.index(label))
        squares.append(torch.tensor(visible))
        if len(images) == images_at_once(model.preprocess.image_size):
            yield torch.stack(images).to(device), torch.tensor(labels, device=device), squares
            images, labels, squares = [], [], []
    if images:
        yield torch.stack(images).to(device), torch.tensor(labels, device=device), squares


class _Values:
    """Values by method and measure, an image each, as batches come in."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))

    def add(self, method: str, measure: str, values: Tensor) -> None:
        self.parts[method][measure].append(values.cpu().double())

    def summary(self, seed: int) -> dict[str, dict[str, dict[str, float]]]:
        return {
            method: {measure: bootstrap(torch.cat(values), seed) for measure, values in measures.items()}
            for method, measures in self.parts.items()
        }


def measure_model(
    model: Classifier,
    data: str,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    limit: int = 500,
    boxes: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Deletion, insertion, localisation (with ``boxes``) and mask statistics; JSON values.

    Every method sees the same images and explains the class that the network predicts. With ``boxes``, DATA is the
    folder that their paths start from.

    Raises:
        UserError: no such data, or boxes that do not fit it.
        ModuleNotFoundError: captum is not installed.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    device = device_of(model)
    precision = resolve_precision("auto", device)
    signed = masks_are_signed(model)

    def probabilities(images: Tensor) -> Tensor:
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(dim=1)

    values = _Values()
    statistics: list[tuple[int, dict[str, dict[str, float]]]] = []
    right = count = 0
    given = Path(data)
    if boxes is not None and not given.is_dir():
        raise UserError(f"with --boxes, DATA is a folder; there is none at {data}")
    batches: Iterator[tuple[Any, ...]] = (
        _split_batches(model, data, data_dir, split, limit)
        if boxes is None
        else _boxed_batches(model, given, boxes, limit)
    )
    for images, labels, *squares in batches:
        maps, found = method_maps(model, images, generator)
        for method, heat in maps.items():
            on_device = heat.to(device)
            for measure, insertion in (("deletion_auc", False), ("insertion_auc", True)):
                area = replacement_auc(probabilities, images, found.targets, on_device, insertion=insertion)
                values.add(method, measure, area)
            if squares:
                values.add(method, "pointing_game", pointing_hits(heat, squares[0]))
                values.add(method, "energy_in_box", energy_in_box(heat, squares[0]))
        statistics.append((len(images), mask_statistics(found.masks, signed=signed)))
        right += int((found.targets == labels).sum())
        count += len(images)
        print(f"  {count} images, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if count == 0:
        raise UserError(f"nothing to measure: preprocessing crops every box of {boxes} away")
    return {
        "data": data,
        "split": None if boxes else split,
        "boxes": None if boxes is None else boxes.name,
        "images": count,
        "accuracy_pct": 100 * right / count,
        "seed": seed,
        "image_size_px": model.preprocess.image_size,
        "network": model.card.get("model"),
        "methods": values.summary(seed),
        "masks": _weighted(statistics),
        "protocol": {
            "target": "predicted class",
            "steps": STEPS,
            "deletion": "pixels replaced by the mean colour",
            "insertion": "pixels restored over a Gaussian blur",
            "interval": f"95 % percentile bootstrap over images, {RESAMPLES} resamples",
            "precision": precision,
            "batch": BATCH,
        },
        "hardware": hardware(device),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "time_s": round(time.perf_counter() - started, 1),
    }


def _weighted(parts: list[tuple[int, dict[str, dict[str, float]]]]) -> dict[str, dict[str, float]]:
    """Batches' statistics as their mean over images."""
    total = sum(count for count, _ in parts)
    first = parts[0][1]
    return {
        module: {key: sum(count * found[module][key] for count, found in parts) / total for key in first[module]}
        for module in first
    }


def model_responses(
    model: Classifier, data: str, *, data_dir: Path | None = None, split: str = "test", limit: int = 500
) -> dict[str, float]:
    """`stage_responses` on evenly spaced images of a split."""
    return stage_responses(model, (images for images, _ in _split_batches(model, data, data_dir, split, limit)))


def print_measures(result: dict[str, Any]) -> None:
    """The tables, as plain columns."""
    print(f"{result['data']}: {result['images']} images, accuracy {result['accuracy_pct']:.2f} %")
    methods = result["methods"]
    width = max(map(len, methods))
    for measure, title in MEASURES.items():
        rows = [(name, found[measure]) for name, found in methods.items() if measure in found]
        if rows:
            print(f"\n{title}, mean [95 % interval]")
        for name, value in sorted(rows, key=lambda row: row[1]["mean"], reverse=measure != "deletion_auc"):
            print(f"  {name:<{width}}  {value['mean']:.3f}  [{value['low']:.3f}, {value['high']:.3f}]")
    print("\nmasks")
    for module, found in result["masks"].items():
        print(f"  {module}  " + "  ".join(f"{key} {value:.3f}" for key, value in found.items()))


def write_measures(result: dict[str, Any], out: Path) -> list[Path]:
    """``measures.json``, ``measures.csv`` (one row a method and measure) and ``measures.png``."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"measures.{suffix}" for suffix in ("json", "csv", "png")]
    write_atomically(files[0], (json.dumps(result, indent=1) + "\n").encode())
    with open(files[1], "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "measure", "mean", "low", "high", "images"])
        for method, measures in result["methods"].items():
            for measure, value in measures.items():
                row = [f"{value[key]:.4f}" for key in ("mean", "low", "high")]
                writer.writerow([method, measure, *row, result["images"]])
    draw_measures(result, files[2], MEASURES)
    return files
