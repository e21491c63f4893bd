"""The family's ledger, and the results of the training runs."""

from collections.abc import Mapping
from typing import Any

from residual_attention.checkpoints.card import read_card
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


REPORTED = {
    "attention56_cifar.cifar10": "the paper reports 5.52 % for Attention-56, after 160,000 steps",
    "attention92_cifar.cifar10": "the paper reports 4.99 % for Attention-92, after 160,000 steps",
    "attention56_cifar.cifar100": "the paper reports no Attention-56 on CIFAR-100, and 21.71 % for Attention-92",
}


DATA = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "scikit-learn's digits (8 x 8 px, scaled to 16)",
}


def weights() -> str:
    """The weights in the package, evaluated as shipped."""
    rows = []
    for name in list_weights():
        run, shipped = read(SHIPPED[name]), (read("weights") or {})[name]
        assert run is not None
        size = (WEIGHTS / f"{name}.safetensors").stat().st_size / 1e6
        error, pixels = f"{shipped['top1_error_pct']:.2f} %", f"{run['image_size_px']}"
        rows.append([f"`{name}`", str(len(run["classes"])), pixels, error, str(run["epochs"]), f"{size:.1f} MB"])
    return table(["MODEL", "classes", "px", "test error", "epochs", "file"], rows)


def card(name: str) -> str:
    """A model card's table, from the file's header, the run that produced it, and its evaluation as shipped."""
    header = read_card(WEIGHTS / f"{name}.safetensors")
    run, shipped = read(SHIPPED[name]), (read("weights") or {})[name]
    assert run is not None
    config, classes = header.config, len(header.classes)
    channels = ", one input channel" if config["in_chans"] == 1 else ""
    network = f"`{header.model}`: {run['parameters']:,} parameters, {classes} classes{channels}"
    images = (
        f"{DATA[run['data']]}: {header.train_images:,} training images, {run['val']['images']:,} validation images "
        f"(the epoch was chosen on them), {shipped['images']:,} test images"
    )
    top5 = f" (top 5: {shipped['top5_error_pct']:.2f} %)" if classes > 10 else ""
    figures = [f"{run['test']['error_pct']:.2f} % in fp32", f"{shipped['top1_error_pct']:.2f} % as shipped{top5}"]
    reported = f"; {REPORTED[name]}" if name in REPORTED else ""
    made = f"`results/{SHIPPED[name]}.json`, then `python tools/ship_weights.py RUN {name}`"
    rows = [
        ["network", network],
        ["data", images],
        ["recipe", _recipe(config, run)],
        ["test error", f"{', '.join(figures)}{reported}"],
        ["calibration", f"expected calibration error {shipped['ece_pct']:.1f} points, before the temperature"],
        ["made by", f"the commands in {made}; figures as shipped: `results/weights.json`"],
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def _recipe(config: Mapping[str, Any], run: dict[str, Any]) -> str:
    """The recipe's name and the settings that it leaves open, from the header."""
    parts = [f"`{config['recipe']}`, {config['epochs']} epochs at {config['image_size']} px"]
    if config["progressive"] < 1:
        first = round(config["progressive"] * config["image_size"])
        parts.append(f"growing from {first} px over the first 60 % of them")
    if config["rotation"]:
        parts.append(f"rotation up to {config['rotation']:g} degrees")
    if config.get("init"):
        parts.append(f"fine-tuned from `{config['init']}`")
    return ", ".join([*parts, f"seed {config['seed']}, {run['precision']}, {machine(run)}"])


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
        "One seed each (0). The epoch was chosen on the validation split. On CIFAR-10, the run of Attention-56 was\n"
        "extended from 24 epochs (test error 8.03 %) to 32 and that of Attention-92 from 8 (13.88 %) to 18; the test\n"
        "split was evaluated again each time. The digits' test split was evaluated twice, too (1.95 % before a change\n"
        "to the recipe). The epoch of the cells' run was chosen by an earlier tie-breaking rule. The CIFAR-100\n"
        "network was fine-tuned from the CIFAR-10 one. Commands and notes: [`results/`](../results/README.md)."
    )
    return "\n\n".join(filter(None, [table(header, rows), note, _training_core(read("benchmark_training"))]))


def _training_core(result: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    per_s, (low, high) = result["images_per_s"], result["ratio_min_max"]
    return (
        f"Training `attention56_cifar` at batch 128: {per_s['defaults']} images/s with the machine's defaults\n"
        f"({result['defaults']}), {per_s['eager_nchw_fp32']} in eager NCHW fp32: **{result['ratio_median']}x**\n"
        f"(median of {result['rounds']} interleaved rounds, {low} to {high}); loading and augmentation take\n"
        f"{result['loading_and_augmentation_share_pct']} % of the time. `{result['command']}`; {machine(result)}."
    )
