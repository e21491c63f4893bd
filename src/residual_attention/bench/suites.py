"""What ``ran bench`` measures, one function per suite; each returns rows of JSON values."""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..family.ledger import ledger_row
from ..plugins import FLAG, loaded
from .ceiling import measure_ceiling
from .child import alone, compare_alone
from .contenders import (
    Contender,
    baseline_at,
    inference_call,
    inference_contenders,
    training_call,
    training_contenders,
)
from .loading import CIFAR_BATCH, batch_against_step, jpeg_speeds
from .timing import Timing, interleaved

Row = dict[str, Any]
Tell = Callable[[str], None]

INFERENCE_BATCH = {32: 64, 224: 8}
TRAINING_BATCH = {32: 128, 224: 8}
DEPTHS = (56, 92, 128, 164, 236, 452)
BATCHES = (1, 8, 32, 128)
IMAGE_SIZES = (64, 128, 224, 320)
CUDA_BATCHES = 8  # times the batch size of a CPU


@dataclass(frozen=True, kw_only=True)
class Setting:
    """``tell`` receives a line for the user as soon as a figure is measured."""

    device: torch.device
    rounds: int
    sizes: tuple[int, ...]
    tell: Tell
    model: str | None = None

    def batch(self, table: dict[int, int], size: int) -> int:
        batch = table[32] if size < 224 else table[224]
        return batch * CUDA_BATCHES if self.device.type == "cuda" else batch


def num_classes_at(size: int) -> int:
    return 1000 if size >= 224 else 10


def _images(batch: int, size: int, device: torch.device) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)


def _rows(suite: str, timings: dict[str, Timing], baseline: str | None, size: int, batch: int) -> Iterator[Row]:
    for label, timing in timings.items():
        row: Row = {"suite": suite, "size_px": size, "batch": batch, "label": label}
        row["images_per_s"] = float(f"{batch / timing.median:.4g}")
        row["ms_per_call"] = float(f"{1e3 * timing.median:.4g}")
        if baseline in timings:
            ratio, least, most = timing.times_faster_than(timings[baseline])
            row |= {"times_baseline": round(ratio, 2), "least": round(least, 2), "most": round(most, 2)}
            row["baseline"] = baseline
        yield row


def _present(contenders: list[Contender], tell: Tell) -> list[Contender]:
    for contender in contenders:
        if contender.missing:
            tell(f"{contender.label}: not run ({contender.missing})")
    return [contender for contender in contenders if not contender.missing]


def _compare(setting: Setting, suite: str, size: int, batch: int, contenders: list[Contender]) -> list[Row]:
    """A new process for each comparison, in which the contenders take turns."""
    setting.tell(f"{suite}, {size} px, batch {batch}")
    seconds = compare_alone(
        "training" if suite == "training" else "inference",
        _present(contenders, setting.tell),
        size=size,
        batch=batch,
        num_classes=num_classes_at(size),
        device=str(setting.device),
        rounds=setting.rounds,
    )
    timings = {label: Timing(values) for label, values in seconds.items()}
    found = list(_rows(suite, timings, baseline_at(size).label, size, batch))
    for row in found:
        ratio = f"{row['times_baseline']:6.2f} x" if "times_baseline" in row else ""
        setting.tell(f"  {row['label']:<50} {row['images_per_s']:>9.1f} images/s {ratio}")
    return found


def _compare_sizes(setting: Setting, suite: str, batches: dict[int, int] | None) -> list[Row]:
    """The comparison at each size; without ``batches``, one image at a time."""
    contenders = training_contenders if suite == "training" else inference_contenders
    rows = []
    for size in setting.sizes:
        batch = 1 if batches is None else setting.batch(batches, size)
        rows += _compare(setting, suite, size, batch, contenders(size, setting.device))
    return rows


def ceiling(setting: Setting) -> list[Row]:
    """The machine's limits, independent of our code."""
    found = measure_ceiling(setting.device, setting.rounds)
    rates = ", ".join(f"{name} {found[name]} GFLOP/s" for name in ("fp32", "bf16", "int8"))
    setting.tell(f"ceiling: {rates}, copy {found['copy_gb_s']} GB/s")
    return [{"suite": "ceiling", "label": name, "value": value} for name, value in found.items()]


def inference(setting: Setting) -> list[Row]:
    """Images/s of prediction."""
    return _compare_sizes(setting, "inference", INFERENCE_BATCH)


def latency(setting: Setting) -> list[Row]:
    """One image at a time."""
    return _compare_sizes(setting, "latency", None)


def training(setting: Setting) -> list[Row]:
    """Images/s of SGD steps."""
    return _compare_sizes(setting, "training", TRAINING_BATCH)


def memory(setting: Setting) -> list[Row]:
    """Peak memory and time to first result, each contender in its own process."""
    rows = []
    default = training_contenders(32, setting.device)[-1]
    deep = [
        (replace(default, label=f"ours, 452 deep{told}", network="attention452_cifar"), options)
        for told, options in (("", {}), (", checkpointing", {"checkpointing": True}))
    ]
    for size in setting.sizes:
        for what, table in (("inference", INFERENCE_BATCH), ("training", TRAINING_BATCH)):
            batch = setting.batch(table, size)
            setting.tell(f"{what}, each in its own process, {size} px, batch {batch}")
            listed = (inference_contenders if what == "inference" else training_contenders)(size, setting.device)
            cases: list[tuple[Contender, dict[str, Any]]] = [(c, {}) for c in _present(listed, setting.tell)]
            if what == "training" and size < 224:
                cases += deep
            for contender, options in cases:
                row: Row = {"suite": f"{what} alone", "size_px": size, "batch": batch, "label": contender.label}
                classes = num_classes_at(size)
                try:
                    row |= alone(
                        what,
                        contender,
                        size=size,
                        batch=batch,
                        num_classes=classes,
                        device=str(setting.device),
                        **options,
                    )
                    told = f"{row['peak_mib']:>8.0f} MiB, first result after {row['first_result_s']:.1f} s"
                except RuntimeError as error:
                    row["error"] = told = str(error)
                rows.append(row)
                setting.tell(f"  {contender.label:<50} {told}")
    return rows


def cost(setting: Setting) -> list[Row]:
    """Our defaults over depth, batch size and image size; the members of a sweep take turns."""
    half = training_contenders(32, setting.device)[-1]
    rows = []

    def sweep(over: str, what: str, cases: dict[Any, tuple[str, int, int]], make: Callable) -> None:
        setting.tell(f"{what} over {over}")
        calls, batches = {}, {}
        for value, (network, size, batch) in cases.items():
            contender = Contender(str(value), network, way="eager", precision=half.precision, channels_last=True)
            calls[str(value)] = make(contender, _images(batch, size, setting.device), num_classes_at(size))
            batches[str(value)] = (network, size, batch)
        for value, timing in interleaved(calls, rounds=setting.rounds, device=setting.device).items():
            network, size, batch = batches[value]
            speed = batch / timing.median
            macs = ledger_row(network, size).macs
            row = {"suite": "cost", "over": over, "what": what, "value": int(value), "network": network}
            row |= {"size_px": size, "batch": batch, "images_per_s": float(f"{speed:.4g}")}
            rows.append(row | {"gflop_per_s": round((6 if what == "training" else 2) * macs * speed / 1e9, 1)})
            setting.tell(f"  {value:>4} {speed:>9.1f} images/s")

    inference_batch, training_batch = (32, 32) if setting.device.type == "cpu" else (512, 512)
    depths = {depth: (f"attention{depth}_cifar", 32, inference_batch) for depth in DEPTHS}
    sweep("depth", "inference", depths, inference_call)
    sweep("depth", "training", {d: (n, s, training_batch) for d, (n, s, _) in depths.items()}, training_call)
    batches = {batch: ("attention56_cifar", 32, batch) for batch in BATCHES}
    sweep("batch", "inference", batches, inference_call)
    sweep("batch", "training", {b: case for b, case in batches.items() if b > 1}, training_call)
    sizes = {size: ("attention56", size, 4) for size in IMAGE_SIZES}
    sweep("image size", "inference", sizes, inference_call)
    sweep("image size", "training", sizes, training_call)
    return rows


def startup(setting: Setting) -> list[Row]:
    """Cold starts, in processes that take turns: ``ran --help``, a prediction, and only importing torch."""
    import tempfile

    from PIL import Image

    from ..checkpoints import list_weights

    command = [sys.executable, "-m", "residual_attention"]
    model = setting.model or next(iter(list_weights()), None)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.new("RGB", (64, 64), (90, 120, 150)).save(image)
        calls = {"import torch": [sys.executable, "-c", "import torch"], "ran --help": [*command, "--help"]}
        if model:
            calls["ran predict"] = [
                *command,
                "predict",
                model,
                str(image),
                *(f"{FLAG}={plugin}" for plugin in loaded()),
            ]
        else:
            setting.tell("ran predict: not run (no weights ship; use --model)")
        found: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(setting.rounds + 1):  # the first loads the files into the page cache
            for name, arguments in calls.items():
                start = time.perf_counter()
                subprocess.run(arguments, check=True, capture_output=True)
                if number:
                    found[name].append(time.perf_counter() - start)
    rows = []
    for name, seconds in found.items():
        ratio = statistics.median(s / t for s, t in zip(seconds, found["import torch"], strict=True))
        rows.append({"suite": "startup", "label": name, "seconds": round(statistics.median(seconds), 3)})
        rows[-1]["times_import_torch"] = round(ratio, 2)
        setting.tell(f"  {name:<14} {rows[-1]['seconds']:.2f} s, {ratio:.2f} x importing torch")
    return rows


def loading(setting: Setting) -> list[Row]:
    """The cost of data: a CIFAR batch relative to its training step, JPEGs by workers relative to bare decoders."""
    contender = training_contenders(32, setting.device)[-1]
    step = training_call(contender, _images(CIFAR_BATCH, 32, setting.device), 10)
    small = batch_against_step(step, setting.device, setting.rounds)
    share = 100 * statistics.median(
        a / (a + b) for a, b in zip(small["loading"].seconds, small["step"].seconds, strict=True)
    )
    setting.tell(f"loading: a CIFAR batch takes {share:.2f} % of a step's time")
    large = jpeg_speeds(setting.device, setting.rounds)
    reached = 100 * large["loader"].times_faster_than(large["decoders"])[0]
    speeds = {name: round(1 / timing.median, 1) for name, timing in large.items()}
    setting.tell(f"loading: JPEGs at 224 px, {speeds['loader']} images/s, {reached:.0f} % of bare decoders' speed")
    return [
        {"suite": "loading", "label": "CIFAR batch", "share_of_step_pct": round(share, 2)},
        {"suite": "loading", "label": "JPEGs at 224 px", "of_bare_decoders_pct": round(reached, 1)}
        | {f"{name}_images_per_s": speed for name, speed in speeds.items()},
    ]


SUITES: dict[str, Callable[[Setting], list[Row]]] = {
    "ceiling": ceiling,
    "inference": inference,
    "latency": latency,
    "training": training,
    "memory": memory,
    "loading": loading,
    "startup": startup,
    "cost": cost,
}


def run(suites: tuple[str, ...], setting: Setting) -> list[Row]:
    """The rows of the named suites, in the order of `SUITES`. Raises UserError for an unknown name."""
    from ..hints import did_you_mean

    for name in suites:
        if name not in SUITES:
            raise UserError(f"no suite {name!r}{did_you_mean(name, SUITES)}; there are {', '.join(SUITES)}")
    logging.disable(logging.WARNING)
    rows: list[Row] = []
    for name, suite in SUITES.items():
        if name in (suites or SUITES):
            rows += suite(setting)
    return rows
