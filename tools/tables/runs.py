"""The family's ledger, and what training runs reached."""

from typing import Any

from residual_attention.checkpoints.load import WEIGHTS, list_weights
from residual_attention.models import ledger_row, list_models

from .markdown import machine, read, table

PAPER = {
    "attention56": "31.9 M, 6.2 G",
    "attention92": "51.3 M, 10.4 G",
    "attentionnext56": "31.9 M, 6.3 G",
    "attentioninception56": "31.8 M, 7.9 G",
    "attention92_cifar": "1.9 M",
    "attention236_cifar": "5.1 M",
    "attention452_cifar": "8.6 M",
}


def ledger() -> str:
    rows = []
    for name in list_models():
        row = ledger_row(name)
        gmacs, depth = f"{row.macs / 1e9:.3f}", str(row.trunk_depth)
        rows.append([f"`{name}`", f"{row.image_size_px}", f"{row.parameters:,}", gmacs, depth, PAPER.get(name, "–")])
    return table(["network", "px", "parameters", "GMACs", "trunk depth", "the paper says"], rows)


SHIPPED = {
    "attention56_cifar.cifar10": "cifar10_quick",
    "attention92_cifar.cifar10": "cifar10_attention92",
    "attention56_cifar.cifar100": "cifar100_quick",
    "attention56_cifar.digits": "digits_quick",
}


def weights() -> str:
    """The weights in the package, each with the run that made it."""
    rows = []
    for name in list_weights():
        run = read(SHIPPED[name])
        assert run is not None
        size = (WEIGHTS / f"{name}.safetensors").stat().st_size / 1e6
        error = f"{run['test']['error_pct']:.2f} %"
        pixels = f"{run['image_size_px']}"
        rows.append([f"`{name}`", str(len(run["classes"])), pixels, error, str(run["epochs"]), f"{size:.1f} MB"])
    return table(["MODEL", "classes", "px", "test error", "epochs", "file"], rows)


def measured() -> str:
    rows = []
    for name in ("digits_quick", "cifar10_quick", "cifar10_attention92", "cifar100_quick", "cells_quick"):
        run = read(name)
        if run is None:
            rows.append([name, "not run", "", "", "", ""])
            continue
        minutes = f"{run['time_s'] / 60:.0f} min"
        error = f"**{run['test']['error_pct']:.2f} %**"
        split = f"{run['val']['error_pct']:.2f} %"
        rows.append([f"{run['data']}, `{run['model']}`", error, split, str(run["epochs"]), minutes, machine(run)])
    header = ["run", "test error", "validation error", "epochs", "training time", "measured on"]
    note = (
        "One seed each (0); the epoch was chosen on the validation split. The CIFAR-10 run was extended from 24\n"
        "epochs (test error 8.03 %) to 32 and its test split evaluated again. Digits were evaluated twice as well\n"
        "(1.95 % before a change of the recipe), and the cells' epoch was chosen by an earlier rule for ties.\n"
        "The CIFAR-100 network was fine-tuned from the one for CIFAR-10.\n"
        "Commands and notes: [`results/`](results)."
    )
    return "\n\n".join(filter(None, [table(header, rows), note, _training_core(read("benchmark_training"))]))


def _training_core(result: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    per_s, (low, high) = result["images_per_s"], result["ratio_min_max"]
    return (
        f"Training `attention56_cifar` at batch 128: {per_s['defaults']} images/s with that machine's defaults\n"
        f"({result['defaults']}), {per_s['eager_nchw_fp32']} in eager NCHW fp32: **{result['ratio_median']}x**\n"
        f"(median of {result['rounds']} interleaved rounds, {low} to {high}); loading and augmentation take\n"
        f"{result['loading_and_augmentation_share_pct']} % of it. `{result['command']}`; {machine(result)}."
    )
