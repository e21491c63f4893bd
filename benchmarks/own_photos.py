"""`ran train FOLDER` with its defaults against timm's ResNet-18 from scratch, in the same minutes, on real folders.

    python benchmarks/own_photos.py --folder flowers=DIR --folder cells=DIR --cifar100 DIR --out results/own_photos.json

A folder of class folders is used as it is; of CIFAR-100 (``DIR/{train,test}/CLASS/*.png``) ten classes are drawn, with
50, 100 and 500 training images each. Ours is the command as a user types it. timm's training script is not part of its
package, so its defaults are set up here from timm's own parts: SGD with Nesterov momentum at 0.1 for 256 images, cosine
with five epochs of warm-up, random resized crops, colour jitter, label smoothing 0.1; batches of at most 128, and as
many epochs as fit into the minutes that ours took from start to finish. Both train on the same images and are tested on
the same ones. The error of timm's last epoch counts. Cells that ``--out`` already holds are not run again.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch.utils.data import DataLoader, Dataset

from record import write_record
from residual_attention.classification.interval import wilson_interval_pct
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.samples import FileSamples

CIFAR_CLASSES, EACH = 10, (50, 100, 500)
SIDES = (224, 64)  # of timm's network: the script's default, and what suits small images and a CPU better
WORKERS = 2


def cifar_subset(cifar100: Path, each: int, out: Path) -> Path:
    """Ten classes drawn with seed 0, ``each`` training images of them, and all their test images."""
    names = sorted(path.name for path in (cifar100 / "train").iterdir())
    for name in random.Random(0).sample(names, CIFAR_CLASSES):
        for split in ("train", "test"):
            files = sorted((cifar100 / split / name).iterdir())
            chosen = random.Random(0).sample(files, each) if split == "train" else files
            (target := out / split / name).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, target)
    return out


def ours(folder: Path, seed: int, scratch: Path) -> dict[str, Any]:
    """The command, its minutes, peak memory and test error."""
    run = scratch / f"ran-{seed}"
    command = [sys.executable, "-m", "residual_attention", "train", str(folder), "--seed", str(seed), "--out", str(run)]
    started = time.monotonic()
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"`{' '.join(command)}` failed")
    summary = json.loads((run / "summary.json").read_text())
    return {
        "minutes": seconds / 60,
        "peak_gib": usage.ru_maxrss / 2**20,
        "model": summary["model"],
        "epochs": summary["epochs"],
        "images": summary["test"]["images"],
        "error_pct": summary["test"]["error_pct"],
    }


class Files(Dataset):
    def __init__(self, samples: FileSamples, transform: Any) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.samples.paths[index]) as image:
            return self.transform(image.convert("RGB")), int(self.samples.labels[index])


def _loader(samples: Any, side: int, batch_size: int, training: bool) -> DataLoader:
    assert isinstance(samples, FileSamples)
    transform = create_transform(side, is_training=training, color_jitter=0.4)
    return DataLoader(
        Files(samples, transform),
        batch_size,
        shuffle=training,
        drop_last=training,
        num_workers=WORKERS,
        persistent_workers=True,
    )


def timms(folder: Path, seed: int, side: int, minutes: float) -> dict[str, Any]:
    """ResNet-18 from scratch for ``minutes``: the epochs are counted out by a first one that is thrown away."""
    torch.manual_seed(seed)
    dataset = load_dataset(DataRequest(data=str(folder), image_size=224, seed=seed))
    assert dataset.train is not None
    assert dataset.test is not None
    started = time.monotonic()
    batch_size = min(128, len(dataset.train) // 2)
    loader = _loader(dataset.train, side, batch_size, True)
    loss = LabelSmoothingCrossEntropy(0.1)

    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = timm.create_model("resnet18", num_classes=len(dataset.classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rate = 0.1 * batch_size / 256
        return model, create_optimizer_v2(model, "sgd", lr=rate, weight_decay=2e-5, momentum=0.9)

    def epoch(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model.train()
        for images, labels in loader:
            found = loss(model(images.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            found.backward()
            optimizer.step()

    epoch(*made())
    begun = time.monotonic()
    model, optimizer = made()
    epoch(model, optimizer)
    each = time.monotonic() - begun
    epochs = max(1, round((60 * minutes - (begun - started)) / each))
    model, optimizer = made()
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=epochs, warmup_epochs=min(5, epochs // 4), warmup_lr=1e-5
    )
    assert schedule is not None
    started = time.monotonic()
    for number in range(epochs):
        schedule.step(number)
        epoch(model, optimizer)
    took = (time.monotonic() - started) / 60
    model.eval()
    wrong = 0
    with torch.inference_mode():
        for images, labels in _loader(dataset.test, side, 32, False):
            wrong += int((F.softmax(model(images), dim=1).argmax(1) != labels).sum())
    images = len(dataset.test)
    return {"minutes": took, "epochs": epochs, "images": images, "error_pct": 100 * wrong / images}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--cifar100", type=Path, help="class folders below train/ and test/")
    parser.add_argument("--each", type=int, nargs="+", default=EACH, help="training images a class of CIFAR-100")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="image sides of timm's network, px")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    named = [f"--folder {text.split('=', 1)[0]}=DIR" for text in given.folder]
    more = ["--cifar100 DIR"] if given.cifar100 is not None else []
    command = " ".join(["python benchmarks/own_photos.py", *named, *more, f"--seeds {given.seeds}"])
    cells: list[dict[str, Any]] = []
    if given.out is not None and given.out.is_file():
        cells = json.loads(given.out.read_text())["cells"]
    done = {(cell["folder"], cell["seed"], cell["who"]): cell for cell in cells}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        folders = {name: Path(place) for name, place in (text.split("=", 1) for text in given.folder)}
        if given.cifar100 is not None:
            for each in given.each:
                name = f"cifar100-10x{each}"
                folders[name] = cifar_subset(given.cifar100, each, scratch / name)
        for seed in range(given.seeds):
            for name, folder in folders.items():
                for who in ("ours", *(f"resnet18, {side} px" for side in given.sides)):
                    if (name, seed, who) in done:
                        continue
                    if who == "ours":
                        found = ours(folder, seed, scratch / f"runs-{name}")
                    else:
                        side = int(who.split()[1])
                        found = timms(folder, seed, side, done[name, seed, "ours"]["minutes"])
                    interval = wilson_interval_pct(round(found["error_pct"] * found["images"] / 100), found["images"])
                    cell = {"folder": name, "seed": seed, "who": who, **found, "interval_95_pct": interval}
                    cells.append(cell)
                    done[name, seed, who] = cell
                    write_record({"command": command, "cells": cells}, given.out)


if __name__ == "__main__":
    main()
