"""Malformed input of every kind over every command: one line that names the file or the flag, and the data untouched.

The rows are combinations of commands with inputs, and each declares what its answer must name. A part of them runs with
the suite; ``make torture`` runs all of them.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from residual_attention import create_model
from residual_attention.checkpoints.card import DETECTION, Card
from residual_attention.checkpoints.format import encode_checkpoint
from residual_attention.checkpoints.load import WEIGHTS_PREFIX
from residual_attention.classification.results import ClassificationOutcome
from residual_attention.cli.main import main
from residual_attention.detection.config import DetectConfig
from residual_attention.detection.detectors import build_body, build_detector
from residual_attention.experiments.declarations import EXPERIMENTS

SMALL = {"num_classes": 2, "widths": [16, 16, 16], "mask_depths": [1, 1, 1], "final_width": 16}
CARD = {
    "model": "attention56_cifar",
    "overrides": SMALL,
    "classes": ["a", "b"],
    "preprocess": {"image_size": 16, "resize": "crop", "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0},
}
LIMIT_S = 60
DEEP = "[" * 100_000 + "]" * 100_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@dataclass(frozen=True)
class Row:
    """A command line, and a part of the one line on stderr with which it must end; None where it must succeed."""

    argv: tuple[str, ...]
    names: str | None

    @property
    def id(self) -> str:
        return (
            " ".join(argument if len(argument) < 40 else f"{argument[:36]}..." for argument in self.argv) or "nothing"
        )


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def row(command: str, names: str | None) -> Row:
    return Row(tuple("" if word == "''" else word for word in command.split()), names)


NUMBERS = ("inf", "nan", "-inf", "x", "''", "-1", "1e400", "99999999999999999999999999")
LOOP = words(
    "lr warmup-epochs min-lr lr-decay momentum weight-decay clip-grad ema epochs steps min-steps repeats batch-size "
    "accumulate patience early-stop workers checkpoint-steps seed"
)
TRAIN = words(
    "shift rotation mixup cutmix color-jitter min-scale classifier-l2 label-smoothing val-fraction test-fraction "
    "label-noise progressive image-size in-chans limit-train crop-padding cutout p t r dropout"
)
DETECT = words(
    "image-size max-size fpn-channels head-channels score-threshold max-boxes scale-jitter color-jitter iou-crop "
    "val-fraction test-fraction limit-train"
)
CHOICES = words(
    "model schedule optimizer precision compile device resize unit mask-activation mask-structure learning stem recipe "
    "padding time fused channels-last flip skip resume"
)
OTHERS = {
    "eval good.safetensors images": ("batch-size", "workers", "image-size"),
    "predict good.safetensors good.png": ("top-k", "batch-size", "min-confidence", "max-error"),
    "attend good.safetensors good.png": ("top-k", "limit"),
    "detect eval detector.safetensors boxes": ("batch-size", "workers"),
    "detect predict detector.safetensors good.png": ("threshold",),
    "demo good.safetensors": ("port", "min-confidence"),
    "bench": ("rounds", "sizes"),
    "reproduce table1": ("seeds", "hours", "submit"),
    "models attention56_cifar": ("image-size", "num-classes", "in-chans", "p", "t", "r"),
    "resume run": ("epochs", "steps", "workers"),
}


def flag_rows() -> Iterator[Row]:
    for command, flags in (("train digits", [*LOOP, *TRAIN]), ("detect train boxes", [*LOOP, *DETECT])):
        for flag in flags:
            for value in NUMBERS:
                yield row(f"{command} --out new --{flag} {value}", flag)
    for command, names in OTHERS.items():
        for flag in names:
            yield from (row(f"{command} --{flag} {value}", flag) for value in NUMBERS)
    for flag in CHOICES:
        for value in ("nope", "''"):
            yield row(f"train digits --out new --{flag} {value}", "nope" if value == "nope" else flag)
    for command in ("train", "eval", "predict", "attend", "report", "export", "demo", "bench", "models", "reproduce"):
        yield row(f"{command} --nope", "--nope")
        yield row(f"{command} --plugin", "--plugin")
        yield row(f"{command} --plugin missing.py", "missing.py")
        yield row(f"{command} --plugin bad.py", "bad.py")
    for command in ("", "nope", "detect nope", "predict", "eval", "export", "attend", "demo", "report", "resume"):
        yield row(command, None if not command else command.split()[-1] if "nope" in command else "")


MODELS = {
    "missing.safetensors": "missing",
    "empty.safetensors": "empty",
    "text.safetensors": "text",
    "cut.safetensors": "cut",
    "header.safetensors": "header",
    "flipped.safetensors": "flipped",
    "foreign.safetensors": "foreign",
    "deep.safetensors": "deep",
    "nan.safetensors": "nan",
    "std.safetensors": "std",
    "size.safetensors": "image_size",
    "units.safetensors": "modules",
    "list.safetensors": "list",
    "bare.safetensors": "bare",
    "newer.safetensors": "newer",
    "task.safetensors": "task",
    "pickle.pt": "pickle",
    "empty.onnx": "empty",
    "text.onnx": "text",
    "foreign.onnx": "foreign",
    "images": "images",
    "local-dir:nowhere": "nowhere",
    "local-dir:hub-empty": "hub-empty",
    "local-dir:hub-text": "hub-text",
    "local-dir:hub-deep": "hub-deep",
    "local-dir:hub-list": "hub-list",
    "local-dir:hub-other": "hub-other",
    "local-dir:hub-cut": "hub-cut",
    "attention56_cifar.cifar11": "cifar11",
}


def model_rows() -> Iterator[Row]:
    for model, names in MODELS.items():
        for command in (
            f"eval {model} images",
            f"predict {model} good.png",
            f"attend {model} good.png --out seen",
            f"export {model} new.onnx",
            f"export {model} local-dir:new-hub",
            f"demo {model}",
            f"detect eval {model} boxes",
            f"detect predict {model} good.png",
            f"detect export {model} new.onnx",
            f"train images --out new --init {model}",
        ):
            if command.startswith("detect") and model == "units.safetensors":
                yield row(command, "a classifier")  # said before its network is looked at
            elif command.endswith("--init images"):
                yield row(command, "")
            else:
                yield row(command, names)
    yield row("eval good.safetensors images --engine nope", "nope")
    yield row("predict good.safetensors good.png --engine nope", "nope")
    yield row("eval good.safetensors images --split nope", "nope")


IMAGES = ("missing", "empty", "text", "cut", "bomb", "zero", "folder", "svg", "riff")


def image_rows() -> Iterator[Row]:
    for image in IMAGES:
        for command in ("predict good.safetensors", "attend good.safetensors --out seen"):
            yield row(f"{command} bad-{image}.png", f"bad-{image}")
            yield row(f"{command} good.png bad-{image}.png", f"bad-{image}")
    for name in ("gray", "wide", "alpha", "palette", "sixteen", "bits", "cmyk"):
        yield row(f"predict good.safetensors ok-{name}", None)


FOLDERS = words("nowhere empty one texts cut.tar text.csv empty.csv missing.csv unlabelled.csv good.png")
LABELS = words(
    "voc-text voc-deep voc-bomb voc-nan coco-text coco-deep coco-list coco-types coco-huge yolo-text yolo-nan "
    "yolo-bomb yolo-classes csv-text csv-empty none"
)


def data_rows() -> Iterator[Row]:
    for folder in FOLDERS:
        yield row(f"train {folder} --out new", folder.split(".")[0])
        yield row(f"eval good.safetensors {folder}", None if folder == "one" else folder.split(".")[0])
        yield row(f"attend good.safetensors {folder} --out seen", None if folder in ("one", "good.png") else "")
    for folder in LABELS:
        for extra in ("", "--problems stop", "--detector fcos", "--limit-train 1"):
            yield row(f"detect train {folder} --out new {extra}", folder.split("-")[0])
    for name in ("text", "deep", "list", "types", "missing"):
        yield row(f"attend good.safetensors images --measure --boxes boxes-{name}.json --out seen", f"boxes-{name}")


EDITS = {
    "summary.json": ("text", "list", "deep", "nan", "empty", "bare", "types"),
    "config.yaml": ("text", "list", "deep", "bomb", "binary"),
    "metrics.csv": ("text", "binary", "empty"),
    "checkpoints/last.safetensors": ("text", "empty", "progress", "optimizer", "schedule", "config", "state"),
}


def run_rows() -> Iterator[Row]:
    for name, edits in EDITS.items():
        for edit in edits:
            run = f"run-{Path(name).stem}-{edit}"
            if name.startswith("checkpoints"):
                yield row(f"resume {run} --epochs 3", run)
                continue
            tolerated = name == "config.yaml" and edit == "text"
            yield row(f"report {run}", None if tolerated else run)
            yield row(f"report run {run} --out compared.html", None if tolerated else run)
    for command in ("report", "resume"):
        yield row(f"{command} nowhere", "nowhere")
        yield row(f"{command} images", "images")
        yield row(f"{command} good.png", "good.png")


def all_rows() -> list[Row]:
    rows = [*flag_rows(), *model_rows(), *image_rows(), *data_rows(), *run_rows()]
    return list({one.argv: one for one in rows}.values())


ROWS = all_rows()
QUICK = ROWS[:: len(ROWS) // 60]


def write_detector(path: Path) -> None:
    thin = {name: SMALL[name] for name in ("widths", "mask_depths")}
    config = DetectConfig(
        data="boxes", detector="fcos", model="attention56_cifar", image_size=64, fpn_channels=64, **thin
    )  # type: ignore[arg-type]
    detector = build_detector(config, build_body(config, config.model)[0], ("a",), (0.5,) * 3, (0.25,) * 3)
    card = Card(
        task=DETECTION, model=config.model, classes=("a",), mean=(0.5,) * 3, std=(0.25,) * 3, config=config.to_dict()
    )
    tensors = {WEIGHTS_PREFIX + name: value for name, value in detector.state_dict().items()}
    path.write_bytes(encode_checkpoint(tensors, card.to_header()))


def write_models(root: Path) -> None:
    torch.manual_seed(0)
    network = create_model("attention56_cifar", **SMALL)
    weights = {WEIGHTS_PREFIX + name: value for name, value in network.state_dict().items()}
    preprocess: dict[str, Any] = CARD["preprocess"]  # type: ignore[assignment]

    def write(name: str, header: dict[str, Any], **tensors: torch.Tensor) -> bytes:
        content = encode_checkpoint({**weights, **tensors}, {**CARD, **header})
        (root / f"{name}.safetensors").write_bytes(content)
        return content

    good = write("good", {})
    write_detector(root / "detector.safetensors")
    first = next(name for name in weights if name.endswith("weight"))
    write("nan", {}, **{first: torch.full_like(weights[first], float("nan"))})
    write("std", {"preprocess": {**preprocess, "std": [0.0] * 3}})
    write("size", {"preprocess": {**preprocess, "image_size": 60_000}})
    write("units", {"overrides": {**SMALL, "modules": [3000, 1, 1]}})
    write("list", {"classes": 3, "overrides": [1]})
    write("newer", {"format": 99})
    write("task", {"task": "segmentation"})
    from safetensors.torch import save

    (root / "foreign.safetensors").write_bytes(save({"a": torch.zeros(2)}))
    (root / "bare.safetensors").write_bytes(save({"a": torch.zeros(2)}, {"residual_attention": "{}", "sha256": "x"}))
    (root / "deep.safetensors").write_bytes(save({"a": torch.zeros(2)}, {"residual_attention": DEEP[:20_000]}))
    (root / "empty.safetensors").touch()
    (root / "empty.onnx").touch()
    for name in ("text.safetensors", "text.onnx", "pickle.pt"):
        (root / name).write_text("text\n" * 50)
    (root / "cut.safetensors").write_bytes(good[: len(good) // 2])
    (root / "header.safetensors").write_bytes(b"\xff" * 8 + good[8:])
    (root / "flipped.safetensors").write_bytes(good[:-9] + bytes([good[-9] ^ 4]) + good[-8:])
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), root / "foreign.onnx")
    for name, config in (
        ("text", "text"),
        ("deep", DEEP),
        ("list", "[]"),
        ("other", '{"architecture": "resnet50"}'),
        ("cut", json.dumps({"architecture": "attention56_cifar", "num_classes": 2})),
    ):
        (folder := root / f"hub-{name}").mkdir()
        (folder / "config.json").write_text(config)
        (folder / "model.safetensors").write_bytes(good[:100] if name == "cut" else good)
    (root / "hub-empty").mkdir()


def write_images(root: Path) -> None:
    for label in "ab":
        (root / "images" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (20, 20), (20 * i, 200 * (label == "a"), 90)).save(root / "images" / label / f"{i}.png")
    Image.new("RGB", (20, 20), (9, 200, 90)).save(root / "good.png")
    good = (root / "images" / "a" / "3.png").read_bytes()
    riff = b"RIFF\x00\x00\x00\x00WEBPVP8 " + b"\x00" * 30
    head = (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
        + (65535).to_bytes(4, "big") * 2
        + b"\x08\x02\x00\x00\x00\x00\x00\x00\x00"
    )
    zero = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(8) + b"\x08\x02\x00\x00\x00\x00\x00\x00\x00"
    contents = {
        "empty": b"",
        "text": b"text",
        "cut": good[:60],
        "bomb": head,
        "zero": zero,
        "svg": b"<svg/>",
        "riff": riff,
    }
    for name, content in contents.items():
        (root / f"bad-{name}.png").write_bytes(content)
    (root / "bad-folder.png").mkdir()
    for name, mode, size, ending in (
        ("gray", "L", (20, 20), "png"),
        ("wide", "RGB", (900, 2), "png"),
        ("alpha", "RGBA", (20, 20), "png"),
        ("palette", "P", (20, 20), "gif"),
        ("sixteen", "I;16", (20, 20), "png"),
        ("bits", "1", (20, 20), "png"),
        ("cmyk", "CMYK", (20, 20), "jpg"),
    ):
        (folder := root / f"ok-{name}").mkdir()
        Image.new(mode, size).save(folder / f"image.{ending}")


def write_folders(root: Path) -> None:
    (root / "empty").mkdir()
    shutil.copytree(root / "images" / "a", root / "one" / "a")
    for label in "ab":
        (root / "texts" / label).mkdir(parents=True)
        (root / "texts" / label / "a.png").write_text("text")
    (root / "cut.tar").write_bytes(b"a.png" + bytes(95) + b"0000644" + bytes(300))
    (root / "text.csv").write_text("text\n")
    (root / "empty.csv").touch()
    (root / "missing.csv").write_text("path,label\nnowhere.png,a\nnor-here.png,b\n")
    (root / "unlabelled.csv").write_text("path,label\nimages/a/1.png,\nimages/b/1.png,\n")
    (root / "bad.py").write_text("1 / 0\n")
    for name, content in (("text", "text"), ("deep", DEEP), ("list", "[]"), ("types", '{"a/1.png": ["x"]}')):
        (root / f"boxes-{name}.json").write_text(content)


def write_labels(root: Path) -> None:
    box = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    voc = "<annotation><filename>0.png</filename><object><name>a</name>" + box + "</object></annotation>"
    entity = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("xbcdefg", "bcdefgh", strict=True)
    )
    one = {
        "images": [{"id": 1, "file_name": "0.png", "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "a"}],
    }
    types = {
        "images": [{"id": [], "file_name": 3}],
        "categories": [{"id": {}, "name": None}],
        "annotations": [{"bbox": "x"}],
    }
    huge = {**one, "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1e400, 1]}]}
    contents = {
        "voc-text": ("0.xml", "text"),
        "voc-deep": ("0.xml", "<a>" * 50_000),
        "voc-bomb": ("0.xml", f"{entity}]><annotation><object><name>&h;</name></object></annotation>"),
        "voc-nan": ("0.xml", voc.format("nan")),
        "coco-text": ("annotations.json", "text"),
        "coco-deep": ("annotations.json", DEEP),
        "coco-list": ("annotations.json", "[]"),
        "coco-types": ("annotations.json", json.dumps(types)),
        "coco-huge": ("annotations.json", json.dumps(huge)),
        "yolo-text": ("0.txt", "text"),
        "yolo-nan": ("0.txt", "0 nan nan nan nan"),
        "yolo-bomb": ("data.yaml", BOMB),
        "yolo-classes": ("0.txt", "99999999999999999999 0.5 0.5 0.1 0.1"),
        "csv-text": ("boxes.csv", "text"),
        "csv-empty": ("boxes.csv", ""),
        "none": ("notes.md", "text"),
    }
    for name, (file, content) in contents.items():
        (folder := root / name).mkdir()
        for i in range(3):
            Image.new("RGB", (20, 20), (9 * i, 9, 9)).save(folder / f"{i}.png")
        if name.startswith("yolo-") and name != "yolo-bomb":
            (folder / "0.txt").write_text("0 0.5 0.5 0.2 0.2")
            (folder / "classes.txt").write_text("a\n")
        (folder / file).write_text(content)
    (root / "boxes").mkdir()
    for i in range(6):
        Image.new("RGB", (20, 20), (9 * i, 9, 9)).save(root / "boxes" / f"{i}.png")
        (root / "boxes" / f"{i}.xml").write_text(voc.format(1).replace("0.png", f"{i}.png"))


def edited(text: str, edit: str) -> bytes:
    values = json.loads(text) if text.startswith("{") else {}
    types = {key: [1] for key in values}
    return {
        "text": b"text: text\n",
        "list": b"[1, 2]",
        "deep": DEEP.encode(),
        "bomb": BOMB.encode(),
        "empty": b"",
        "binary": b"\xff\xfe\x00\x81" * 9,
        "nan": json.dumps({**values, "time_s": float("nan"), "test": {"error_pct": "x"}}).encode(),
        "bare": b"{}",
        "types": json.dumps(types).encode(),
    }[edit]


def write_runs(root: Path) -> None:
    """One run of two steps, and a copy for each edit."""
    from residual_attention.checkpoints.format import read_checkpoint

    thin = "--widths 16 16 16 --mask-depths 1 1 1 --t 1 --learning plain --precision fp32 --device cpu --workers 0"
    command = f"train images --recipe quick --epochs 1 --image-size 16 --batch-size 8 --init none --json {thin}"
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(io.StringIO()):
        patched.setattr(ClassificationOutcome, "draw", lambda *_: {})
        patched.chdir(root)
        assert main([*command.split(), "--model", "attention56_cifar", "--out", "run"]) == 0
    tensors, header = read_checkpoint(root / "run" / "checkpoints" / "last.safetensors")
    for name, edits in EDITS.items():
        for edit in edits:
            path = shutil.copytree(root / "run", root / f"run-{Path(name).stem}-{edit}") / name
            if edit in ("text", "empty") or not name.startswith("checkpoints"):
                path.write_bytes(edited(path.read_text() if path.suffix == ".json" else "", edit))
                continue
            training = dict(header["training"])
            changed = {**header, "training": [] if edit == "state" else {**training, edit: {"x": 1}}}
            if edit == "config":
                changed = {**header, "config": {**header["config"], "epochs": "x", "modules": 3}}
            path.write_bytes(encode_checkpoint(tensors, {k: v for k, v in changed.items() if k != "format"}))


def digest(root: Path) -> str:
    """Of every file's name and content below ``root``."""
    found = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()


INPUTS = ("images", "boxes", "one", "texts", *LABELS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every input; at the end, the data among them are as they were."""
    root = tmp_path_factory.mktemp("world")
    for write in (write_models, write_images, write_folders, write_labels, write_runs):
        write(root)
    before = {name: digest(root / name) for name in INPUTS}
    yield root
    assert {name: digest(root / name) for name in INPUTS} == before


def out_of_time(*_: Any) -> None:
    raise TimeoutError(f"no answer within {LIMIT_S} s")


def call(argv: tuple[str, ...]) -> tuple[int, str, str]:
    """Exit status, standard output and error of ``ran ARGV``; a hang ends as a bug."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(LIMIT_S)
        try:
            status = main(list(argv))
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    return status, out.getvalue(), err.getvalue()


def judge(one: Row, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    status, out, err = call(one.argv)
    for made in ("new", "new-hub", "seen"):
        shutil.rmtree(world / made, ignore_errors=True)
    assert "Traceback" not in out + err
    assert "this is a bug" not in err, err
    if one.names is None:
        assert status == 0, err
        return
    lines = [line for line in err.splitlines() if line.startswith("ran: ")]
    assert (status, bool(lines)) == (2, True), (status, out[-500:], err[-500:])
    assert len(lines[-1]) < 1500
    asked = one.names.replace("-", "_"), one.names
    assert any(name in lines[-1] or name in lines[-1].replace("-", "_") for name in asked), lines[-1]


@pytest.mark.parametrize("one", QUICK, ids=lambda one: one.id)
def test_a_part_of_the_table(one: Row, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(one, world, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("one", ROWS[:: round(1 / float(os.environ.get("RAN_ROWS", "1")))], ids=lambda one: one.id)
def test_the_whole_table(one: Row, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(one, world, monkeypatch)


def test_the_table_is_large_enough() -> None:
    assert len(ROWS) >= 700
    assert {one.argv[0] for one in ROWS if one.argv} >= {"train", "eval", "predict", "attend", "export", "detect"}
    assert set(EXPERIMENTS)


def test_a_model_file_without_permission_says_so(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not bind root, who runs many containers: the refusal comes from ``open``."""
    monkeypatch.chdir(world)
    opened = Path.open

    def refused(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "good.safetensors":
            raise PermissionError(13, os.strerror(13), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    status, _, err = call(("eval", "good.safetensors", "images"))
    assert (status, "permission denied" in err) == (2, True), err


def test_yaml_that_grows_is_refused_at_once() -> None:
    from residual_attention.documents import UserError, parse_yaml

    with pytest.raises(UserError, match=r"c\.yaml is not valid YAML: aliases"):
        parse_yaml(BOMB, "c.yaml")
    assert yaml.safe_load(BOMB.splitlines()[0])["a"] == ["x"] * 9
