"""Write the README's tables from the ledger and from ``results/``; ``--check`` only tells whether they are current."""

import argparse
import json
import sys
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
        "One seed each (0); the epoch was chosen on the validation split and the test split evaluated once.\n"
        "Commands, notes and every figure: [`results/`](results)."
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


def updated(text: str) -> str:
    for name, content in (("ledger", ledger()), ("measured", measured())):
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 when the README is out of date")
    readme = ROOT / "README.md"
    text = readme.read_text()
    current = updated(text)
    if parser.parse_args().check:
        return int(current != text)
    readme.write_text(current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
