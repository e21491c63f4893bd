"""Does `ran audit` find shortcuts that were planted in CIFAR-10, and does it stay silent where there are none?

    python benchmarks/planted_shortcuts.py --cifar10 DIR --networks 40 --out results/audit_planted.json

Half of the networks are trained on images of which one class carries a shortcut in 80 % of its images, training and
test alike: a corner mark, a frame, a tint or a caption strip (`planting.py`), by turns; class, place and colours are
drawn from the network's seed. The other half is trained on the images as they are. Each network is an Attention-56 of
6 epochs on 4,000 images; the audit sees 2,000 test images of the same source. A shortcut counts as found if it is
suspected in the right class and at the right spot. Any suspicion about a network without one is a false alarm.

The thresholds of the audit were chosen on networks of seeds below 1000. The default seeds start there.

Networks that ``--out`` already holds are not trained again. Several processes share the work: each takes
``--part I/N`` and writes a file of its own beside ``--out``; ``--merge`` joins them. DIR holds
``{train,test}/CLASS/*.png``, or ``train.npz`` and ``test.npz`` with ``images`` (N, 32, 32, 3) uint8, ``labels`` and
``classes``, as ``--pack`` writes them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from planting import KINDS, SIDE, Planted, draw, plant, train
from record import write_record
from residual_attention.audit.examine import examine
from residual_attention.audit.findings import Findings, Suspicion
from residual_attention.audit.gather import Gathered
from residual_attention.audit.spots import SHARED, Spot
from residual_attention.checkpoints import load
from residual_attention.classification.interval import wilson_interval_pct
from residual_attention.devices import hardware, resolve_device, versions

FIRST_SEED = 1000
FRAME_PX = 2  # depth of a planted frame


def kind_of(number: int) -> str | None:
    """The shortcut of network ``number``; None for every second one."""
    return list(KINDS)[number // 2 % len(KINDS)] if number % 2 == 0 else None


def planted_pixels(planted: Planted) -> torch.Tensor:
    """(SIDE, SIDE) bool: where a local shortcut lies."""
    assert planted.box is not None
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    top, left, bottom, right = planted.box
    inside[top:bottom, left:right] = True
    if planted.kind == "frame":
        inside[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = False
    return inside


def is_right(planted: Planted, classes: list[str], suspicion: Suspicion, spot: Spot) -> bool:
    """The right class, and half of the smaller one of spot and shortcut in common."""
    if suspicion.label != classes[planted.label]:
        return False
    if planted.box is None or spot.kind == "colours":
        return planted.box is None and spot.kind == "colours"
    mine, theirs = planted_pixels(planted), spot.pixels(SIDE)
    return float((mine & theirs).sum() / min(mine.sum(), theirs.sum())) >= SHARED


def told(suspicion: Suspicion) -> dict[str, Any]:
    lift = suspicion.pasted.lift
    return {
        "class": suspicion.label,
        "place": suspicion.place.name,
        "box": suspicion.place.box,
        "lift_points": [round(value, 1) for value in (lift.mean, lift.low, lift.high)],
        "covered_drop_points": round(suspicion.covered.drop.mean, 1),
        "sameness": round(suspicion.sameness, 2),
    }


def run_cell(given: argparse.Namespace, number: int, device: torch.device) -> dict[str, Any]:
    """Train and audit one network."""
    seed, kind = given.first_seed + number, kind_of(number)
    training, classes = draw(given.cifar10, "train", given.train_each, seed)
    test, _ = draw(given.cifar10, "test", given.test_each, seed)
    planted = None if kind is None else plant(kind, seed, [training, test])
    with tempfile.TemporaryDirectory() as scratch:
        file = (given.keep or Path(scratch)) / f"{seed}.safetensors"
        started = time.monotonic()
        if not file.is_file():
            train(training, classes, seed, given.epochs, device, file)
        trained = time.monotonic()
        model = load(file, device)
        examined = examine(model, Gathered(test.images, test.labels), data="cifar10", name=str(seed), seed=seed)
    findings: Findings = examined.findings
    right = [
        planted is not None and is_right(planted, classes, suspicion, spot)
        for suspicion, spot in zip(findings.suspicions, examined.spots, strict=True)
    ]
    return {
        "seed": seed,
        "kind": kind,
        "planted": None if planted is None else {**planted.to_dict(), "class": classes[planted.label]},
        "accuracy_pct": round(100 * float((examined.evidence.predicted == test.labels).float().mean()), 2),
        "found": any(right),
        "rank": right.index(True) + 1 if any(right) else None,
        "wrong": sum(not one for one in right),
        "suspicions": [told(suspicion) for suspicion in findings.suspicions],
        "train_s": round(trained - started, 1),
        "audit_s": round(time.monotonic() - trained, 1),
    }


def rate(hits: int, of: int) -> dict[str, Any]:
    return {"count": hits, "of": of, "pct": 100 * hits / max(1, of), "interval_95_pct": wilson_interval_pct(hits, of)}


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    planted, clean = ([c for c in cells if (c["kind"] is None) == without] for without in (False, True))
    by_kind = {kind: [c for c in planted if c["kind"] == kind] for kind in KINDS}
    return {
        "recall": rate(sum(c["found"] for c in planted), len(planted)) if planted else None,
        "recall_by_kind": {
            kind: f"{sum(c['found'] for c in of_kind)} of {len(of_kind)}" for kind, of_kind in by_kind.items()
        },
        "first_in_rank": sum(c["rank"] == 1 for c in planted),
        "false_alarms": rate(sum(bool(c["suspicions"]) for c in clean), len(clean)) if clean else None,
        "wrong_suspicions_beside_a_shortcut": sum(c["wrong"] for c in planted),
        "accuracy_pct": [min(c["accuracy_pct"] for c in cells), max(c["accuracy_pct"] for c in cells)],
    }


def record(given: argparse.Namespace, cells: list[dict[str, Any]], machine: dict[str, Any], out: Path | None) -> None:
    cells = sorted(cells, key=lambda cell: cell["seed"])
    protocol = {key: getattr(given, key) for key in ("first_seed", "train_each", "test_each", "epochs")}
    command = f"python benchmarks/planted_shortcuts.py --cifar10 DIR --networks {given.networks} --out {out}"
    found = {"summary": summary(cells), "protocol": protocol, "machine": machine, "cells": cells}
    write_record({"command": command, **found}, out)


def part_of(out: Path, part: str) -> Path:
    return out.with_suffix(f".part-{part.replace('/', '-of-')}.json")


def earlier(out: Path | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The cells of ``out`` and of its parts, each once, and the machine of the first file that has any."""
    files = [] if out is None else [out, *sorted(out.parent.glob(f"{out.stem}.part-*.json"))]
    records = [json.loads(file.read_text()) for file in files if file.is_file()]
    cells = {cell["seed"]: cell for one in records for cell in one["cells"]}
    return list(cells.values()), next((one["machine"] for one in records), {})


def pack(source: Path, out: Path, each: dict[str, int]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for split, count in each.items():
        samples, classes = draw(source, split, count, 0)
        images = samples.images.permute(0, 2, 3, 1).contiguous().numpy()
        np.savez(out / f"{split}.npz", images=images, labels=samples.labels.numpy(), classes=np.array(classes))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="folder with train and test")
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--train-each", type=int, default=400, help="training images of a class")
    parser.add_argument("--test-each", type=int, default=200, help="images of a class that the audit sees")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--part", metavar="I/N", help="every N-th network from the I-th on, I from 1")
    parser.add_argument("--merge", action="store_true", help="join the parts beside --out, and train nothing")
    parser.add_argument("--keep", type=Path, help="folder of the checkpoints; they are thrown away by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help="only write train.npz and test.npz of a part of CIFAR-10"
    )
    parser.add_argument("--pack-each", type=int, nargs=2, default=(1200, 300), metavar=("TRAIN", "TEST"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    given = arguments(argv)
    if given.pack is not None:
        return pack(given.cifar10, given.pack, dict(zip(("train", "test"), given.pack_each, strict=True)))
    cells, machine = earlier(given.out)
    if given.merge:
        return record(given, cells, machine, given.out)
    device = resolve_device(given.device)
    first, parts = map(int, (given.part or "1/1").split("/"))
    if parts > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // parts))
    machine = {"hardware": hardware(device), "versions": versions()}
    out = given.out if given.out is None or given.part is None else part_of(given.out, given.part)
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    done, mine = {cell["seed"] for cell in cells}, [] if given.part else cells
    if out is not None and given.part and out.is_file():
        mine = json.loads(out.read_text())["cells"]
    for number in range(first - 1, given.networks, parts):
        if given.first_seed + number in done:
            continue
        cell = run_cell(given, number, device)
        mine.append(cell)
        print(
            json.dumps({key: cell[key] for key in ("seed", "kind", "found", "wrong", "accuracy_pct")}), file=sys.stderr
        )
        record(given, mine, machine, out)


if __name__ == "__main__":
    main()
