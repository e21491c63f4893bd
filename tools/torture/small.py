"""The smallest runs that do everything a run does, in forked processes that need not import torch again."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from residual_attention.checkpoints import read_checkpoint
from residual_attention.classification.config import TrainConfig
from residual_attention.detection.config import DetectConfig
from residual_attention.tasks import train
from residual_attention.training.config import RunConfig
from residual_attention.training.interrupt import Interrupted

THIN: dict[str, Any] = {"widths": (16, 16, 16), "mask_depths": (1, 1, 1), "t": 1, "precision": "fp32", "device": "cpu"}
TIMES = ("images_per_s", "time_s")  # columns that differ from run to run


def thin(out: Path) -> TrainConfig:
    """Four steps in two epochs over a few tiny images, with everything random turned on."""
    data = out.parent / "tiny"
    if not data.is_dir():
        write_images(data, side=16, each=12)
    return TrainConfig(
        **THIN,
        data=str(data),
        model="attention56_cifar",
        image_size=16,
        limit_train=16,
        batch_size=8,
        epochs=2,
        lr=0.05,
        ema=0.9,
        rotation=5.0,
        cutout=4,
        dropout=0.1,
        checkpoint_steps=1,
        workers=0,
        out=out,
        json=True,
        resume="auto",
    )


def files(out: Path, data: Path, workers: int = 2) -> TrainConfig:
    """Images that worker processes decode."""
    config = replace(thin(out), data=str(data), image_size=72, batch_size=6, color_jitter=0.2, workers=workers)
    return replace(config, limit_train=None, epochs=1)


def boxes(out: Path, data: Path) -> DetectConfig:
    """A detector, two steps."""
    return DetectConfig(
        **THIN,
        data=str(data),
        detector="fcos",
        model="attention56_cifar",
        init="none",
        image_size=64,
        fpn_channels=64,
        batch_size=2,
        steps=2,
        lr=1e-3,
        checkpoint_steps=1,
        workers=0,
        out=out,
        json=True,
        resume="auto",
    )


def write_images(root: Path, side: int = 72, each: int = 8) -> Path:
    for label in "ab":
        (root / label).mkdir(parents=True)
        for i in range(each):
            noise = torch.randint(
                0, 255, (side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i)
            )
            Image.fromarray(noise.numpy()).save(root / label / f"{i}.png")
    return root


def write_boxes(root: Path) -> Path:
    root.mkdir(parents=True)
    rows = ["image,xmin,ymin,xmax,ymax,class"]
    for i in range(10):
        picture = Image.new("RGB", (64, 64), (20, 20, 20))
        picture.paste((220, 60, 40), (8 + i, 8, 40 + i, 40))
        picture.save(root / f"{i}.png")
        rows.append(f"{i}.png,{8 + i},8,{40 + i},40,square")
    (root / "boxes.csv").write_text("\n".join(rows) + "\n")
    return root


def forked(function: Callable[[], None], log: Path) -> int:
    """The number of a forked process that runs ``function``, exits as the command line would, and writes to ``log``."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setpgid(0, 0)  # so that it can be killed with its workers
        descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        torch.set_num_threads(1)
        function()
        code = 0
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        code = stop.exit_code
    except ValueError as error:  # UserError
        print(f"ran: error: {error}", file=sys.stderr)
        code = 2
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, limit_s: float = 300.0) -> int:
    """The exit status of a forked process, negative for a signal; a hang is killed and is -99."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            kill_group(pid)  # workers that outlived it
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    kill_group(pid)
    os.waitpid(pid, 0)
    return -99


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def trained(config: RunConfig, log: Path, before: Callable[[], None] | None = None) -> int:
    """The number of a forked process that trains; ``before`` runs first, in that process."""

    def run() -> None:
        if before is not None:
            before()
        train(config)

    return forked(run, log)


def undisturbed(config: RunConfig, log: Path, before: Callable[[], None] | None = None) -> int:
    """Train in a forked process; this one then imports what that one had to, so that the next start faster."""
    modules = log.with_suffix(".modules")

    def run() -> None:
        if before is not None:
            before()
        train(config)
        modules.write_text(json.dumps(sorted(sys.modules)))

    status = ended(forked(run, log))
    for name in json.loads(modules.read_text()) if modules.is_file() else ():
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                import_module(name)
    return status


def without_pictures() -> None:
    """Leave out the drawings, which are most of a small run's time."""
    from residual_attention.classification.results import ClassificationOutcome
    from residual_attention.detection.results import DetectionOutcome

    for outcome in (ClassificationOutcome, DetectionOutcome):
        outcome.draw = lambda *_: {}  # type: ignore[method-assign]


def difference(one: Path, other: Path) -> str | None:
    """What differs between two runs: any tensor of any checkpoint, or a row of metrics.csv but for times."""
    for name in ("last", "best"):
        a, b = (read_checkpoint(run / "checkpoints" / f"{name}.safetensors")[0] for run in (one, other))
        if a.keys() != b.keys():
            return f"{name}: other tensors"
        if differing := [key for key in a if not torch.equal(a[key], b[key])]:
            return f"{name}: {len(differing)} tensors differ, {differing[0]} first"
    rows = []
    for run in (one, other):
        head, *lines = (run / "metrics.csv").read_text().splitlines()
        kept = [i for i, column in enumerate(head.split(",")) if column not in TIMES]
        rows.append([[line.split(",")[i] for i in kept] for line in lines])
    return None if rows[0] == rows[1] else "metrics.csv differs"
