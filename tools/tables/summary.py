"""The README's table: the best figure for each kind of task, and its cost."""

from typing import Any

from residual_attention.experiments import claims

from .markdown import read, table
from .reproduction import PLACES
from .speed import fastest

TASKS = {
    "cifar10_quick": "CIFAR-10",
    "cifar100_quick": "CIFAR-100, fine-tuned from CIFAR-10",
    "digits_quick": "handwritten digits",
    "cells_quick": "blood cells, cropped (BCCD)",
}


def _training(name: str, task: str) -> list[str]:
    run = read(name)
    if run is None:
        return [task, "not run", "", ""]
    how = f"{run['epochs']} epochs, {run['time_s'] / 60:.0f} min on {_cores(run)}"
    return [task, f"`{run['model']}`", f"**{run['test']['error_pct']:.2f} %** test error", how]


def _cores(run: dict[str, Any]) -> str:
    hardware = run["hardware"]
    used = min(hardware.get("threads", hardware["cores"]), hardware["cores"])
    return hardware["gpu"] or f"{used} CPU core{'s' if used > 1 else ''}"


def _detection() -> list[str]:
    task = "blood cells, boxes (BCCD)"
    ours, other = read("detect_bccd"), read("detect_bccd_resnet50")
    if ours is None:
        return [task, "not run", "", ""]
    beside = f" (ResNet-50: {other['test']['ap50_pct']:.1f} %)" if other else ""
    reached = f"**{ours['test']['ap50_pct']:.1f} %** test AP50{beside}"
    return [task, "Faster R-CNN on `attention56_cifar`", reached, f"{ours['epochs']} epochs"]


def _speed() -> list[str]:
    best = fastest("inference", 224)
    task = "inference on a CPU, 224 px"
    if best is None:
        return [task, "not run", "", ""]
    peer = best[0]["baseline"].partition(",")[0]
    reached = " and ".join(f"**{row['times_baseline']:.1f}x**" for row in best)
    how = ", ".join(row["label"].removeprefix("ours, ") for row in best)
    return [task, "`attention56`", f"{reached} the speed of {peer}", how]


def _claims() -> list[str]:
    protocol = "cpu"
    found = [claims.find(claim, protocol, PLACES).verdict for claim in claims.CLAIMS]
    counts = {verdict: found.count(verdict) for verdict in claims.VERDICTS}
    plural = {"holds": "hold", "does not hold": "do not hold"}
    reached = ", ".join(f"{count} {plural.get(verdict, verdict)}" for verdict, count in counts.items() if count)
    return [f"the paper's {len(found)} claims", "CIFAR networks", reached, "10,000 images, 4 epochs per run"]


def reached() -> str:
    """One row per task: network, result, cost."""
    rows = [_training(name, task) for name, task in TASKS.items()]
    return table(["task", "network", "result", "how"], [*rows, _detection(), _speed(), _claims()], of_text=True)
