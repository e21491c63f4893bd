"""Make the golden files of checkpoint format 1: files that commit a97514f wrote, and what it computed from them.

They pin backwards compatibility (tests/golden/test_golden.py). They are made once, by that commit's code and no other:
files by later code would pin nothing. A later format gets golden files of its own, beside these.

    git worktree add /tmp/before a97514f
    PYTHONPATH=/tmp/before/src python tools/make_golden.py tests/golden

This writes ``format_1.zip`` (runs, checkpoints, exported models, images) and ``format_1.json`` (commands and expected
values), and refuses to overwrite either. It takes a few minutes. An exported model holds the paths of the source files
that built it, so the worktree and the Python environment should lie in a neutral place.

Everything is fp32, on the CPU, on one thread: another number of threads sums in another order and rounds differently.

The smallest network that ``ran train`` accepts still ends in three units of 256 channels, which hold nearly all of its
weights. Their convolutions start at zero here. They stay there, as do their momenta and averages: batch normalisation
maps zeros to its bias, zero, where ReLU passes no gradient. So the archive is small, while each file in it is complete
and just as the command wrote it.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch.optim.optimizer import register_optimizer_step_post_hook

import residual_attention
import residual_attention.models
from residual_attention import attention_masks, detect_files, load, load_detector
from residual_attention.cli.main import main as ran

COMMIT = "a97514f20728a066e9b9c36ab97d701e1d48dd7d"
NAME = "format_1"
NETWORK = {"modules": (1, 1, 1), "widths": (8, 8, 8), "mask_depths": (2, 1, 1), "t": 1}
OPTIONS = "--model attention56_cifar --modules 1 1 1 --widths 8 8 8 --mask-depths 2 1 1 --t 1"
MACHINE = "--device cpu --precision fp32 --compile off --channels-last on --workers 0 --seed 3"
DIGITS = f"train digits {OPTIONS} --limit-train 320 --batch-size 16 --epochs 2 --min-steps 0 --lr 0.05 --ema 0.8"
DIGITS_STOP = 35  # of 40 steps; from there to the end, rounding does not grow to what a test would see
FRESH = f"train digits {OPTIONS} --limit-train 64 --batch-size 16 --epochs 2 --min-steps 0 --lr 0.00005"
SHAPES = (
    f"train shapes {OPTIONS} --image-size 24 --resize letterbox --batch-size 12 --epochs 30 --min-steps 0 --lr 0.05"
)
BOXES = (
    "detect train boxes --init shapes-run --image-size 64 --fpn-channels 8 --head-channels 16 --batch-size 4"
    " --epochs 60 --lr 0.003 --max-boxes 10"
)
BOXES_STOP = 237  # of 240 steps
COLOURS = {"disc": (220, 60, 40), "square": (50, 110, 230), "cross": (40, 170, 90)}
LEFT_OUT = ("images_per_s", "time_s")  # of a row of the history: how fast this machine was


def check_commit() -> None:
    """Raises SystemExit unless the package is that of `COMMIT`, unchanged."""
    source = Path(residual_attention.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", source, *arguments], capture_output=True, text=True).stdout.strip()

    if git("rev-parse", "HEAD") != COMMIT or git("status", "--porcelain", "."):
        raise SystemExit(f"{source} is not the unchanged code of {COMMIT[:7]}; see the top of this file")


def command(line: str) -> dict[str, Any]:
    """Run ``ran LINE --json``; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = ran([*line.split(), "--json"])
    if status != 0:
        raise SystemExit(f"ran {line}: exit status {status}")
    return json.loads(printed.getvalue())


@contextlib.contextmanager
def stopped_after(step: int) -> Iterator[None]:
    """Send this process SIGTERM in optimizer step ``step``; the run finishes it, saves and exits with 143."""
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGTERM)

    hook = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        hook.remove()
    assert steps == step, f"stopped after step {steps}, not {step}"


def write_initial(folder: Path, classes: list[str], in_chans: int, size: int) -> None:
    """A hub folder of a fresh network whose final convolutions are zero, as timm writes it."""
    torch.manual_seed(3)
    overlay = {"input_size": (in_chans, size, size), "mean": (0.5,) * in_chans, "std": (0.5,) * in_chans}
    network = timm.create_model(
        "attention56_cifar",
        num_classes=len(classes),
        in_chans=in_chans,
        pretrained_cfg_overlay=overlay,
        **NETWORK,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("final.") and ".residual." in name and parameter.ndim == 4:
                parameter.zero_()
    arguments = {**{name: list(v) if isinstance(v, tuple) else v for name, v in NETWORK.items()}, "in_chans": in_chans}
    save_for_hf(
        network, str(folder), model_config={"label_names": classes}, model_args=arguments, safe_serialization=True
    )


def draw(picture: Image.Image, kind: str, x: int, y: int, side: int) -> None:
    """A shape of ``side`` pixels whose upper left corner is at (x, y)."""
    pen, colour, far = ImageDraw.Draw(picture), COLOURS[kind], side - 1
    if kind == "disc":
        pen.ellipse((x, y, x + far, y + far), fill=colour)
    elif kind == "square":
        pen.rectangle((x, y, x + far, y + far), fill=colour)
    else:
        third = side // 3
        pen.rectangle((x + third, y, x + far - third, y + far), fill=colour)
        pen.rectangle((x, y + third, x + far, y + far - third), fill=colour)


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(0, 90, 3)))


def write_shapes(root: Path) -> None:
    """Class folders of PNG files of 24 to 32 pixels a side, one shape each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        for kind in COLOURS:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                width, height, side = (int(v) for v in (*rng.integers(24, 33, 2), rng.integers(10, 17)))
                picture = background(rng, width, height)
                draw(picture, kind, int(rng.integers(0, width - side)), int(rng.integers(0, height - side)), side)
                picture.save(folder / f"{i:02d}.png")


def write_boxes(root: Path) -> None:
    """PASCAL VOC's layout, PNG files of 64 pixels a side, two shapes each."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    names = [f"{i:02d}" for i in range(20)]
    for name in names:
        width = height = 64
        picture, objects = background(rng, width, height), ""
        for column in range(2):
            kind, side = ("disc", "square")[int(rng.integers(2))], int(rng.integers(16, 27))
            x, y = 32 * column + int(rng.integers(1, 32 - side)), int(rng.integers(1, 63 - side))
            draw(picture, kind, x, y, side)
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + side, y + side), strict=True)
            box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
            objects += f"<object><name>{kind}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
        picture.save(root / "JPEGImages" / f"{name}.png")
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.png</filename>{size}{objects}</annotation>\n"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    for split, part in (("train", names[:16]), ("val", names[16:18]), ("test", names[18:])):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in part))


def write_wide(path: Path) -> None:
    """One image of 90x72 px with a disc and a square."""
    picture = background(np.random.default_rng(2), 90, 72)
    draw(picture, "disc", 8, 30, 26)
    draw(picture, "square", 52, 12, 24)
    picture.save(path)


def made_images(count: int, in_chans: int, size: int) -> torch.Tensor:
    """(count, in_chans, size, size), values in [-1, 1]."""
    values = torch.arange(count * in_chans * size * size).remainder(17) / 8 - 1
    return values.reshape(count, in_chans, size, size)


def gradients(model: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the cross-entropy with class 0, in training mode, by parameter.

    A machine that computes the same bits here computes them in the rest of a run too.
    """
    model.train()
    torch.nn.functional.cross_entropy(model(images), torch.zeros(len(images), dtype=torch.long)).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def header(run: Path, name: str) -> dict[str, str]:
    with safe_open(run / "checkpoints" / f"{name}.safetensors", framework="pt") as file:
        return file.metadata()


def epochs(run: Path) -> list[dict[str, Any]]:
    """The record of each epoch with all digits, as format 1 keeps it in the header."""
    history = json.loads(header(run, "last")["residual_attention"])["training"]["progress"]["history"]
    return [{key: value for key, value in row.items() if key not in LEFT_OUT} for row in history]


def parts(summary: dict[str, Any], *names: str) -> dict[str, dict[str, float]]:
    return {split: {name: summary[split][name] for name in names} for split in ("val", "test")}


def digits() -> dict[str, Any]:
    """A classifier of digits, stopped within its second epoch, and where a resume took it."""
    write_initial(Path("digits-initial"), [str(i) for i in range(10)], 1, 16)
    train = f"{DIGITS} {MACHINE} --init local-dir:digits-initial"
    with stopped_after(DIGITS_STOP):
        assert ran([*train.split(), "--out", "digits-stopped", "--json"]) == 143
    shutil.copytree("digits-stopped", "digits-resumed")
    summary = command("resume digits-resumed")
    command(f"{train} --out digits-straight")
    for name in ("last", "best"):
        hashes = {header(Path(run), name)["sha256"] for run in ("digits-resumed", "digits-straight")}
        assert len(hashes) == 1, f"{name}: the resumed run is not the one that was never stopped"
    stopped = command("eval digits-stopped digits --device cpu")
    images = made_images(16, 1, 16)
    save_file({"images": images, **gradients(load("digits-stopped"), images)}, "digits-gradients.safetensors")
    return {
        "train": train,
        "stopped": {name: stopped[name] for name in ("images", "loss", "top1_error_pct")},
        "resumed": {"epochs": epochs(Path("digits-resumed")), "summary": parts(summary, "loss", "error_pct")},
    }


def fresh() -> dict[str, Any]:
    """The epochs of a short run from the seed. Its rate is low, so that rounding does not grow from step to step."""
    command(f"{FRESH} {MACHINE} --out fresh")
    return {"train": f"{FRESH} {MACHINE}", "epochs": epochs(Path("fresh"))}


def shapes() -> dict[str, Any]:
    """A finished classifier of colour images, exported to ONNX and as a hub folder."""
    write_shapes(Path("shapes"))
    write_initial(Path("shapes-initial"), list(COLOURS), 3, 24)
    command(f"{SHAPES} {MACHINE} --init local-dir:shapes-initial --out shapes-run")
    command("export shapes-run shapes.onnx --masks --data shapes")
    command("export shapes-run local-dir:shapes-hub")
    shutil.copytree("shapes/test", "shapes-test")
    model, images = load("shapes-run"), made_images(2, 3, 24)
    save_file({"images": images}, "shapes-images.safetensors")
    evaluation = command("eval shapes-run shapes-test --device cpu")
    predictions = command("predict shapes-run shapes-test/disc/00.png shapes-test/cross/01.png wide.png --device cpu")
    with torch.no_grad():
        logits = model(images)
        masks = {name: mask.double().mean().item() for name, mask in attention_masks(model, images).items()}
    return {
        "classes": model.classes,
        "logits": logits.tolist(),
        "mask_means": masks,
        "predictions": predictions,
        "evaluation": {name: evaluation[name] for name in ("images", "loss", "top1_error_pct", "ece_pct")},
    }


def boxes() -> dict[str, Any]:
    """A detector, stopped within its last epoch, the boxes that it finds, and where a resume took it."""
    write_boxes(Path("boxes"))
    with stopped_after(BOXES_STOP):
        assert ran([*f"{BOXES} {MACHINE}".split(), "--out", "boxes-stopped", "--json"]) == 143
    shutil.copytree("boxes-stopped", "boxes-resumed")
    summary = command("resume boxes-resumed")
    command("detect export boxes-stopped boxes.onnx --images wide.png boxes/JPEGImages/18.png")
    evaluation = command("detect eval boxes-stopped boxes --device cpu")
    model = load_detector("boxes-stopped")
    found, errors = detect_files(model, [Path("wide.png"), Path("boxes/JPEGImages/18.png")], threshold=0.5)
    assert not errors, errors
    return {
        "classes": list(model.classes),
        "found": [{"path": one.path, "boxes": one.boxes} for one in found],
        "evaluation": {name: evaluation[name] for name in ("images", "boxes", "map_pct", "ap50_pct")},
        "resumed": {"epochs": epochs(Path("boxes-resumed"))[-2:], "summary": parts(summary, "map_pct", "ap50_pct")},
    }


KEPT = (
    "digits-stopped/config.yaml",
    "digits-stopped/metrics.csv",
    "digits-stopped/checkpoints/*",
    "digits-resumed/checkpoints/*",
    "digits-gradients.safetensors",
    "shapes-run/config.yaml",
    "shapes-run/metrics.csv",
    "shapes-run/summary.json",
    "shapes-run/checkpoints/best.safetensors",
    "shapes-hub/*",
    "shapes.onnx",
    "shapes-images.safetensors",
    "shapes-test/*/*",
    "wide.png",
    "boxes/**/*",
    "boxes-stopped/config.yaml",
    "boxes-stopped/metrics.csv",
    "boxes-stopped/checkpoints/*",
    "boxes.onnx",
)


def pack(out: Path) -> int:
    """Write the archive; the number of files in it."""
    files = sorted({path for pattern in KEPT for path in Path().glob(pattern) if path.is_file()})
    with zipfile.ZipFile(out, "x") as archive:
        for path in files:  # an entry of a ZipInfo carries no date
            entry = zipfile.ZipInfo(path.as_posix())
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return len(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for format_1.zip and format_1.json")
    folder: Path = parser.parse_args().out.resolve()
    archive, record = folder / f"{NAME}.zip", folder / f"{NAME}.json"
    if existing := [str(path) for path in (archive, record) if path.exists()]:
        raise SystemExit(f"{', '.join(existing)}: golden files are made once; remove them only to begin anew")
    check_commit()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="golden-") as work, contextlib.chdir(work):
        write_wide(Path("wide.png"))
        expected = {
            "commit": COMMIT,
            "made_with": {"torch": torch.__version__, "python": platform.python_version(), "threads": 1},
            "digits": digits(),
            "fresh": fresh(),
            "shapes": shapes(),
            "boxes": boxes(),
        }
        count = pack(archive)
    expected["sha256"] = hashlib.sha256(archive.read_bytes()).hexdigest()
    record.write_text(json.dumps(expected, indent=1) + "\n")
    print(f"{archive}: {archive.stat().st_size / 2**20:.2f} MiB, {count} files; {record}")


if __name__ == "__main__":
    main()
