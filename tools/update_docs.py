"""Write the tables of the README and the docs from the ledger and ``results/``; ``--check`` only tells if current."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from residual_attention.models import ledger_row, list_models

ROOT = Path(__file__).resolve().parent.parent
PAPER = {
    "attention56": "31.9 M, 6.2 G",
    "attention92": "51.3 M, 10.4 G",
    "attentionnext56": "31.9 M, 6.3 G",
    "attentioninception56": "31.8 M, 7.9 G",
    "attention92_cifar": "1.9 M",
    "attention236_cifar": "5.1 M",
    "attention452_cifar": "8.6 M",
}


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [" | ".join(header), "|".join(["---"] + ["---:"] * (len(header) - 1)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def ledger() -> str:
    rows = []
    for name in list_models():
        row = ledger_row(name)
        gmacs, depth = f"{row.macs / 1e9:.3f}", str(row.trunk_depth)
        rows.append([f"`{name}`", f"{row.image_size_px}", f"{row.parameters:,}", gmacs, depth, PAPER.get(name, "–")])
    return _table(["network", "px", "parameters", "GMACs", "trunk depth", "the paper says"], rows)


def _machine(result: dict[str, Any]) -> str:
    hardware = result["hardware"]
    bf16 = ", ".join(e for e in hardware["cpu_extensions"] if "bf16" in e) or "no bf16"
    where = hardware["gpu"] or f"{hardware['cores']} cores of {hardware['cpu']} ({bf16})"
    return f"{where}, torch {result['versions']['torch']}, {result['date']}"


def _read(name: str) -> dict[str, Any] | None:
    path = ROOT / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def measured() -> str:
    rows = []
    for name in ("digits_quick", "cifar10_quick"):
        run = _read(name)
        if run is None:
            rows.append([name, "not run", "", "", "", ""])
            continue
        minutes = f"{run['time_s'] / 60:.0f} min"
        error = f"**{run['test']['error_pct']:.2f} %**"
        split = f"{run['val']['error_pct']:.2f} %"
        rows.append([f"{run['data']}, `{run['model']}`", error, split, str(run["epochs"]), minutes, _machine(run)])
    header = ["run", "test error", "validation error", "epochs", "training time", "measured on"]
    note = (
        "One seed each (0); the epoch was chosen on the validation split. The CIFAR-10 run was extended from 24\n"
        "epochs (test error 8.03 %) to 32 and its test split evaluated again.\n"
        "Commands and notes: [`results/`](results)."
    )
    return "\n\n".join(filter(None, [_table(header, rows), note, _speed(_read("benchmark_training"))]))


def _speed(result: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    per_s, (low, high) = result["images_per_s"], result["ratio_min_max"]
    return (
        f"Training `attention56_cifar` at batch 128: {per_s['defaults']} images/s with that machine's defaults\n"
        f"({result['defaults']}), {per_s['eager_nchw_fp32']} in eager NCHW fp32: **{result['ratio_median']}x**\n"
        f"(median of {result['rounds']} interleaved rounds, {low} to {high}); loading and augmentation take\n"
        f"{result['loading_and_augmentation_share_pct']} % of it. `{result['command']}`; {_machine(result)}."
    )


MEASURES = {
    "deletion_auc": "deletion ↓",
    "insertion_auc": "insertion ↑",
    "pointing_game": "pointing game ↑",
    "energy_in_box": "energy in box ↑",
}


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _measures(name: str) -> str:
    """One row a method; what was not run says so."""
    result = _read(name)
    if result is None:
        return f"`{name}`: not run."
    first = next(iter(result["methods"].values()))
    shown = [measure for measure in MEASURES if measure in first]
    rows = [[method, *(_interval(found[measure]) for measure in shown)] for method, found in result["methods"].items()]
    note = (
        f"{result['images']} images, {result['accuracy_pct']:.1f} % of them classified right, seed {result['seed']}; "
        f"{_machine(result)}.\n`{result['command']}`"
    )
    return _table(["map", *(MEASURES[measure] for measure in shown)], rows) + "\n\n" + note


def _mask_statistics(name: str) -> str:
    result = _read(name)
    if result is None:
        return f"`{name}`: not run."
    keys = list(next(iter(result["masks"].values())))
    rows = [[f"`{module}`", *(f"{found[key]:.3f}" for key in keys)] for module, found in result["masks"].items()]
    return _table(["module", *(key.replace("_", " ") for key in keys)], rows)


def _cost() -> str:
    result = _read("benchmark_masks")
    if result is None:
        return "Cost of recording the masks: not run."
    ratio, noise = result["ratio_to_predict"]["with_masks"], result["ratio_to_predict"]["predict_again"]
    return (
        f"Recording the masks of one image at {result['image_size_px']} px takes {ratio:.3f} times a prediction "
        f"(`{result['network']}`, median of {result['rounds']} interleaved pairs; a second plain prediction "
        f"{noise:.3f}); the readings *class* and *excited* need a backward pass, "
        f"{result['ratio_to_predict']['with_class_gradients']:.2f} times. `{result['command']}`; {_machine(result)}."
    )


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"ledger": ledger, "measured": measured},
    "docs/masks.md": {
        "measures on CIFAR-10": lambda: _measures("measures_cifar10"),
        "measures on cells": lambda: _measures("measures_cells"),
        "statistics": lambda: _mask_statistics("measures_cifar10"),
        "cost": _cost,
    },
}


def updated(page: str, text: str) -> str:
    """The page's text with what stands between its markers written anew."""
    for name, content in PAGES[page].items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{content()}\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a page is out of date")
    check, stale = parser.parse_args().check, 0
    for page in PAGES:
        path = ROOT / page
        text = path.read_text()
        current = updated(page, text)
        stale += current != text
        if not check:
            path.write_text(current)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
