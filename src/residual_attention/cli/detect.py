"""``ran detect train | eval | predict | export``."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ..detection.config import DetectConfig, detect_defaults
from ..errors import UserError
from ..training.options import LoopOptions, MachineOptions, NetworkOptions, OutputOptions
from .arguments import as_asked, parse, print_error
from .grouping import groups_of

USAGE = """usage: ran detect train DATA | eval MODEL [DATA] | predict MODEL IMAGE... | export MODEL OUT.onnx [--help]

An object detector on the network's stages.

  train    from a folder of images with VOC, COCO, CSV or YOLO boxes to a detector, a report and its figures
  eval     COCO's and VOC's average precision of a trained detector on a split
  predict  boxes in images, folders or globs; --out draws them, --masks shows where the backbone looks
  export   one ONNX file, checked against PyTorch; eval and predict take it as MODEL

`ran resume RUN` goes on with a stopped run; `ran detect COMMAND --help` tells a command's arguments."""

TRAIN = """Train a detector, measure and report it: one command from annotated images to a model.

DATA is a folder of images with boxes in PASCAL VOC's XML, COCO's JSON, a CSV or YOLO's labels, with or without
train/val/test, or one JSON or CSV file. Every box is checked first. The run's folder holds the report, drawn boxes,
curves and checkpoints."""

EVAL = """COCO's mean average precision and PASCAL VOC's, per class, of a trained detector.

DATA is a folder as for training, or one JSON or CSV file; the detector's own training data when left out."""

EXPORT = """One ONNX file of a detector: a single image of any size in, boxes, labels and scores out.

The boxes that ONNX Runtime finds are compared with PyTorch's before anything is written."""

PREDICT = """Boxes in images: one line a box, with class, score and corners in pixels of the image.

What cannot be read is reported, the rest is predicted, and the exit status is 2."""


@dataclass(frozen=True)
class DetectTrainArguments(DetectConfig):
    data: tyro.conf.Positional[str] = ""
    """DATA: a folder of images with VOC, COCO or YOLO annotations or a CSV of boxes."""


@dataclass(frozen=True)
class DetectEvalArguments:
    model: tyro.conf.Positional[str]
    """MODEL: a run folder, a .safetensors or a detector's .onnx of ours."""
    data: tyro.conf.Positional[str | None] = None
    """Folder or annotation file; the detector's own data by default."""
    split: Literal["test", "val", "train"] = "test"
    """Split to measure; an annotation file is measured whole."""
    problems: Literal["skip", "stop"] = "skip"
    """What to do about boxes and images that the sanity pass finds wrong."""
    batch_size: int = 8
    """Images at a time."""
    workers: int = 0
    """Processes that decode images."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


@dataclass(frozen=True)
class DetectPredictArguments:
    model: tyro.conf.Positional[str]
    """MODEL: a run folder, a .safetensors or a detector's .onnx of ours."""
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """IMAGE...: files, folders or globs."""
    threshold: float = 0.5
    """Boxes of a lower score are left out."""
    out: Path | None = None
    """Folder for a copy of each image with its boxes drawn."""
    masks: bool = False
    """With --out: also each attention mask of the backbone under the boxes."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


@dataclass(frozen=True)
class DetectExportArguments:
    model: tyro.conf.Positional[str]
    """MODEL: a run folder or a .safetensors of ours."""
    out: tyro.conf.Positional[Path]
    """OUT.onnx: the file to write."""
    images: tuple[str, ...] = ()
    """Images, folders or globs to check on; made images by default."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


COMMON = ("model", "detector", "epochs", "batch_size", "lr", "image_size", "init", "seed", "out", "device")
SECTIONS = {
    "network": (NetworkOptions,),
    "optimisation": (LoopOptions,),
    "machine": (MachineOptions,),
    "output": (OutputOptions,),
}
GROUPS = groups_of(DetectTrainArguments, COMMON, SECTIONS, rest="detection")


def _train(argv: list[str]) -> int:
    values = {field.name: getattr(detect_defaults(), field.name) for field in dataclasses.fields(DetectConfig)}
    default = DetectTrainArguments(**values)
    given = parse(
        DetectTrainArguments, argv, prog="ran detect train", description=TRAIN, default=default, groups=GROUPS
    )
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(DetectConfig)}
    if not given.data:
        raise UserError("DATA is missing; see `ran detect train --help`")
    config = as_asked(DetectConfig(**values), argv)
    from ..tasks import train

    summary = train(config)
    if given.json:
        print(json.dumps(summary))
    return 0


def _eval(argv: list[str]) -> int:
    given = parse(DetectEvalArguments, argv, prog="ran detect eval", description=EVAL)
    from ..detection.evaluate import evaluate_detector

    result = evaluate_detector(
        given.model,
        given.data,
        split=given.split,
        problems=given.problems,
        batch_size=given.batch_size,
        workers=given.workers,
        device=given.device,
    )
    if given.json:
        print(json.dumps(result))
        return 0
    for line in result["problems"][:20]:
        print_error(line)
    print(f"{result['data']} ({result['split']}): {result['images']} images, {result['boxes']} boxes")
    print(f"mAP {result['map_pct']:.2f} %   AP50 {result['ap50_pct']:.2f} %   AP75 {result['ap75_pct']:.2f} %   (COCO)")
    print(f"AP50 {result['voc_ap50_pct']:.2f} % by area, {result['voc07_ap50_pct']:.2f} % by 11 points   (VOC)")
    width = max(len(row["class"]) for row in result["per_class"])
    for row in result["per_class"]:
        figures = (row["ap50_pct"], row["precision_pct"], row["recall_pct"])
        ap, precision, recall = ("    -" if value is None else f"{value:5.1f}" for value in figures)
        start = f"  {row['class']:<{width}}  {row['boxes']:6d} boxes"
        print(f"{start}  AP50 {ap} %  precision {precision} %  recall {recall} %")
    return 0


def _predict(argv: list[str]) -> int:
    given = parse(DetectPredictArguments, argv, prog="ran detect predict", description=PREDICT)
    if not given.images:
        raise UserError("no image given; see `ran detect predict --help`")
    if not 0 <= given.threshold <= 1:
        raise UserError(f"threshold must lie between 0 and 1, not {given.threshold}")
    if given.masks and given.out is None:
        raise UserError("--masks draws pictures; give their folder with --out")
    from ..data.find import find_images
    from ..detection.load import any_detector
    from ..detection.predict import detect_files
    from ..devices import resolve_device

    paths = find_images(given.images)
    model = any_detector(given.model, resolve_device(given.device))
    if given.masks and given.model.endswith(".onnx"):
        raise UserError("an exported detector keeps no masks; give its run folder")
    found, errors = detect_files(model, paths, threshold=given.threshold)
    drawn = []
    if given.out is not None:
        from ..detection.drawing import draw_found

        drawn = draw_found(model, found, given.out, masks=given.masks)
    if given.json:
        print(
            json.dumps({"images": [one.to_dict() for one in found], "errors": errors, "drawn": list(map(str, drawn))})
        )
    else:
        for one in found:
            print(
                f"{one.path}: {len(one.boxes)} boxes" if one.boxes else f"{one.path}: nothing above {given.threshold:g}"
            )
            for name, score, box in one.boxes:
                print(f"  {name}  {100 * score:.1f} %  {', '.join(f'{v:.0f}' for v in box)}")
        for path in drawn:
            print(f"drawn {path}")
    for error in errors:
        print_error(error)
    return 2 if errors else 0


def _export(argv: list[str]) -> int:
    given = parse(DetectExportArguments, argv, prog="ran detect export", description=EXPORT)
    if given.out.suffix != ".onnx":
        raise UserError(f"OUT must end in .onnx, not {given.out.name}")
    if given.out.is_dir():
        raise UserError(f"{given.out} is a folder; OUT names a file")
    from ..detection.export import check_images, export_detector
    from ..detection.load import load_detector

    detector = load_detector(given.model)
    images = check_images(detector, given.images)
    difference = export_detector(detector, given.out, images)
    if given.json:
        print(json.dumps({"out": str(given.out), "images": len(images), "largest_difference": difference}))
        return 0
    print(f"{given.out}: {given.out.stat().st_size / 2**20:.1f} MiB, {len(detector.classes)} classes")
    print(f"the same boxes as PyTorch's in {len(images)} images (largest difference {difference:.1e})")
    return 0


COMMANDS = {"train": _train, "eval": _eval, "predict": _predict, "export": _export}


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        raise SystemExit(0)
    if argv[0] not in COMMANDS:
        raise UserError(f"no command {argv[0]!r} of `ran detect`; there are {', '.join(COMMANDS)}")
    return COMMANDS[argv[0]](argv[1:])
