"""Speed and memory: ``ran bench``."""

from typing import Any

from residual_attention.bench.contenders import WIDE
from residual_attention.models import ledger_row

from .markdown import machine, read, table

BENCH, LATER = "bench_cpu", "bench_cpu_start"  # LATER: suites measured again after changes
Rows = list[dict[str, Any]]


def _record() -> dict[str, Any] | None:
    """The recorded bench, with re-measured suites in place of the older ones."""
    result, later = read(BENCH), read(LATER)
    if result is None or later is None:
        return result
    again = {row["suite"] for row in later["rows"]}
    return {**result, "rows": [row for row in result["rows"] if row["suite"] not in again] + later["rows"]}


def _ours(label: str) -> bool:
    return label.startswith("ours")


def _best(rows: Rows, int8: bool = False) -> dict[str, Any] | None:
    """Our fastest contender, with or without int8."""
    ours = [row for row in rows if _ours(row["label"]) and ("int8" in row["label"]) == int8]
    return max(ours, key=lambda row: row["times_baseline"], default=None)


def fastest(name: str, size: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Our fastest contenders of a suite at an image size, without and with int8; None unless both exist."""
    result = _record()
    rows = [row for row in result["rows"] if row["suite"] == name and row.get("size_px") == size] if result else []
    floating, int8 = _best(rows), _best(rows, int8=True)
    return (floating, int8) if floating and int8 else None


def _memory(rows: Rows, suite: str, size: int) -> dict[str, float]:
    return {r["label"]: r["peak_mib"] for r in rows if r["suite"] == suite and r["size_px"] == size and "peak_mib" in r}


def share_of_ceiling(rows: Rows, row: dict[str, Any], macs: int, precision: str) -> float | None:
    """The operations of a row's images, in % of what matrix products reach; None if that was not measured."""
    limits = {one["label"]: one["value"] for one in rows if one["suite"] == "ceiling"}
    operations = {"inference": 2, "training": 6}[row["suite"]] * macs
    return 100 * row["images_per_s"] * operations / 1e9 / limits[precision] if precision in limits else None


def goals(rows: Rows) -> list[tuple[str, str, float | None, bool | None]]:
    """(what, goal, measured, reached); None if not measured."""
    found: list[tuple[str, str, float | None, bool | None]] = []

    def at_most(what: str, goal: float, value: float | None, unit: str = "") -> None:
        found.append((what, f"≤ {goal:g}{unit}", value, None if value is None else value <= goal))

    def of(suite: str, size: int) -> Rows:
        return [row for row in rows if row["suite"] == suite and row.get("size_px") == size]

    def at_least(what: str, goal: float, row: dict[str, Any] | None, macs: int, precision: str) -> None:
        value = None if row is None else share_of_ceiling(rows, row, macs, precision)
        found.append((what, f"≥ {goal:g} %", value, None if value is None else value >= goal))

    large, small, wide = (ledger_row(name).macs for name in ("attention56", "attention56_cifar", WIDE))
    at_least("inference, 224 px, share of the bf16 ceiling", 90, _best(of("inference", 224)), large, "bf16")
    at_least("inference, 32 px, share of the bf16 ceiling", 90, _best(of("inference", 32)), small, "bf16")
    fastest_int8 = _best(of("inference", 224), int8=True)
    at_least("inference, 224 px, share of the int8 ceiling", 75, fastest_int8, large, "int8")
    at_least("training, 224 px, share of the bf16 ceiling", 75, _best(of("training", 224)), large, "bf16")
    of_wide = next((row for row in of("training", 32) if row["label"].startswith("wide")), None)
    at_least("training the wide network, 32 px, share of the bf16 ceiling", 55, of_wide, wide, "bf16")
    large = _memory(rows, "training alone", 224)
    defaults = next((v for k, v in large.items() if k.startswith("ours, defaults")), None)
    peer = large.get("pytorchcv resattnet56, eager fp32")
    share = defaults / peer if defaults and peer else None
    at_most("training memory at 224 px, relative to the peer", 0.6, share, " x")
    small = _memory(rows, "training alone", 32)
    plain, saving = small.get("ours, 452 deep"), small.get("ours, 452 deep, checkpointing")
    share = saving / plain if plain and saving else None
    at_most("memory of 452 layers with checkpointing, relative to without", 0.25, share, " x")
    single = {row["label"]: row for row in rows if row["suite"] in ("loading", "startup")}
    at_most("loading a CIFAR batch, share of the step", 2, single.get("CIFAR batch", {}).get("share_of_step_pct"), " %")
    jpegs = single.get("JPEGs at 224 px", {}).get("of_bare_decoders_pct")
    fast = None if jpegs is None else jpegs >= 90
    found.append(("loading JPEGs for training, relative to bare decoders", "≥ 90 %", jpegs, fast))
    at_most("`ran --help`", 0.5, single.get("ran --help", {}).get("seconds"), " s")
    start = single.get("ran predict", {}).get("times_import_torch")
    at_most("`ran predict`, relative to importing torch", 1.5, start, " x")
    exported = read("int8_cifar10")
    int8 = exported["int8_on_images"] if exported else None
    lost = int8["error_pct"] - int8["pytorch_error_pct"] if int8 else None
    at_most("accuracy lost to int8, CIFAR-10", 0.5, lost, " points")
    return found


def _goal_table(rows: Rows) -> str:
    words = {True: "yes", False: "no", None: "not run"}
    lines = [
        [what, goal, "" if value is None else f"{value:.2f}", words[reached]]
        for what, goal, value, reached in goals(rows)
    ]
    return table(["", "goal", "measured", "reached"], lines)


def suite(name: str) -> str:
    """The table of a suite with a baseline, at both sizes."""
    result = _record()
    rows = [row for row in result["rows"] if row["suite"] == name] if result else []
    if not rows:
        return f"`ran bench {name}`: not run."
    tables = []
    for size in sorted({row["size_px"] for row in rows}, reverse=True):
        chosen = [row for row in rows if row["size_px"] == size]
        lines = []
        for row in chosen:
            times = "1" if row["label"] == row.get("baseline") else f"{row['times_baseline']:.2f}"
            spread = "" if times == "1" else f"{row['least']:.2f} to {row['most']:.2f}"
            lines.append([row["label"], f"{row['images_per_s']:.4g}", f"{row['ms_per_call']:.4g}", times, spread])
        header = [f"{size} px, batch {chosen[0]['batch']}", "images/s", "ms/call", "ratio to the first", "range"]
        tables.append(table(header, lines))
    return "\n\n".join(tables)


def memory() -> str:
    result = _record()
    rows = [row for row in result["rows"] if row["suite"].endswith("alone")] if result else []
    if not rows:
        return "`ran bench memory`: not run."
    lines = [
        [
            f"{row['suite'].split()[0]}, {row['size_px']} px, batch {row['batch']}: {row['label']}",
            f"{row['peak_mib']:.0f}" if "peak_mib" in row else row["error"],
            f"{row['first_result_s']:.1f}" if "first_result_s" in row else "",
        ]
        for row in rows
    ]
    return table(["", "peak memory (MiB)", "first result after (s)"], lines)


def machine_line() -> str:
    result = _record()
    if result is None:
        return "`ran bench`: not run."
    limits = {row["label"]: row["value"] for row in result["rows"] if row["suite"] == "ceiling"}
    lines = [f"`{result['command']}`; {machine(result)}; medians of {result['rounds']} rounds."]
    if later := read(LATER):
        again = f"`{later['command']}`; {machine(later)}"
        lines.append(f"Loading and startup, measured again after both were fixed: {again}.")
    if limits:
        lines.append(
            f"The machine's ceiling: {limits['fp32']:.0f} GFLOP/s in fp32 and {limits['bf16']:.0f} in bf16 "
            f"(matrix products), {limits['copy_gb_s']:.0f} GB/s (copies)."
        )
    return "\n".join(lines)


def goal_table() -> str:
    result = _record()
    return _goal_table(result["rows"]) if result else "Goals: not run."


def cost() -> str:
    result = _record()
    rows = [row for row in result["rows"] if row["suite"] == "cost"] if result else []
    if not rows:
        return "`ran bench cost`: not run."
    lines = []
    for row in rows:
        per_s, gflop = f"{row['images_per_s']:.4g}", f"{row['gflop_per_s']:.0f}"
        name = f"{row['what']} over {row['over']}: {row['value']}"
        lines.append([name, str(row["size_px"]), str(row["batch"]), per_s, gflop])
    return table(["", "px", "batch", "images/s", "GFLOP/s"], lines)


def precision() -> str:
    """Loss curves of bf16 and fp32, epoch by epoch."""
    result = read("precision_digits")
    if result is None:
        return "`python benchmarks/precision.py`: not run."
    header = ["epoch", "fp32, mean loss", "bf16, mean loss", "difference, in standard deviations between seeds"]
    rows = [
        [str(i), f"{row['fp32']:.4f}", f"{row['bf16']:.4f}", f"{row['deviations']:+.2f}"]
        for i, row in enumerate(result["by_epoch"], start=1)
    ]
    return f"{table(header, rows)}\n\n{result['seeds']} seeds each. `{result['command']}`; {machine(result)}."


def in_short() -> str:
    """The fastest contenders relative to the baselines, suite by suite."""
    result = read(BENCH)
    if result is None:
        return "`ran bench`: not run."
    lines = []
    for suite in ("inference", "latency", "training"):
        for size in (224, 32):
            rows = [row for row in result["rows"] if row["suite"] == suite and row["size_px"] == size]
            if not rows:
                continue
            base = next(row for row in rows if row["label"] == row["baseline"])
            for int8 in (False, True):
                if best := _best(rows, int8):
                    name = f"{suite}, {size} px, batch {best['batch']}"
                    against = f"{base['label']}: {base['images_per_s']:.4g} images/s"
                    rate, ratio = f"{best['images_per_s']:.4g}", f"**{best['times_baseline']:.1f}x**"
                    lines.append([name, against, best["label"], rate, ratio])
    shown = table(["", "baseline", "ours", "images/s", "ratio"], lines)
    return f"{shown}\n\n{machine(result)}; medians of {result['rounds']} interleaved rounds. `{result['command']}`."
