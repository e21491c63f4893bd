"""``ran detect train | eval | predict | export``."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ..detection.config import DetectConfig, detect_defaults
from ..errors import UserError
from ..names import printable
from ..training.options import LoopOptions, MachineOptions, NetworkOptions, OutputOptions, TransferOptions
from .arguments import as_asked, check_loading, images_among, parse, print_error
from .grouping import groups_of

USAGE = """usage: ran detect train DATA | eval MODEL [DATA] | predict MODEL IMAGE... | export MODEL OUT.onnx [--help]

Object detection with this backbone.

  train    train a detector on a folder of images with VOC, COCO, CSV or YOLO boxes, and report on it
  eval     measure a detector's average precision (COCO and VOC) on a split
  predict  find boxes in images, folders or globs; --out draws them, --masks shows where the backbone looks
  export   write one ONNX file, checked against PyTorch; eval and predict take it as MODEL

`ran resume RUN` resumes a stopped run; `ran detect COMMAND --help` lists a command's arguments."""

TRAIN = """Train, evaluate and report on a detector: one command from annotated images to a model.

DATA is a folder of images with boxes in PASCAL VOC's XML, COCO's JSON, a CSV or YOLO's labels, with or without
train/val/test, or one JSON or CSV file. Every box is checked first. The run folder holds the report, drawn boxes,
curves and checkpoints."""

EVAL = """Evaluate a trained detector: mean average precision by COCO and PASCAL VOC, and results per class.

DATA is a folder as for training, or one JSON or CSV file; by default, the detector's own data."""

EXPORT = """Export a detector as one ONNX file: a single image of any size in; boxes, labels and scores out.

The boxes from ONNX Runtime are compared with PyTorch's before anything is written."""

PREDICT = """Detect objects in images: one line per box, with class, score and corners in image pixels.

If an image cannot be read, it is reported, the others are still processed, and the exit status is 2."""


@dataclass(frozen=True)
class DetectTrainArguments(DetectConfig):
    data: tyro.conf.Positional[str] = ""
    """A folder of images with VOC, COCO or YOLO annotations or a CSV of boxes."""


@dataclass(frozen=True)
class DetectEvalArguments:
    model: tyro.conf.Positional[str]
    """A run folder, or a detector's .safetensors or .onnx file written by ran."""
    data: tyro.conf.Positional[str | None] = None
    """Folder or annotation file; the detector's own data by default."""
    split: Literal["test", "val", "train"] = "test"
    """Split to evaluate; an annotation file is evaluated as a whole."""
    problems: Literal["skip", "stop"] = "skip"
    """What to do with boxes and images that fail the checks."""
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
    """A run folder, or a detector's .safetensors or .onnx file written by ran."""
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """Image files, folders or globs."""
    threshold: float = 0.5
    """Boxes with a lower score are dropped."""
    out: Path | None = None
    """Folder for a copy of each image with its boxes drawn."""
    masks: bool = False
    """With --out: also draw each attention mask of the backbone under the boxes."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


@dataclass(frozen=True)
class DetectExportArguments:
    model: tyro.conf.Positional[str]
    """A run folder or a .safetensors file written by ran."""
    out: tyro.conf.Positional[Path]
    """OUT.onnx: the file to write."""
    images: tuple[str, ...] = ()
    """Images, folders or globs for the check; synthetic images by default."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


COMMON = ("model", "detector", "epochs", "time", "batch_size", "lr", "image_size", "init", "seed", "out", "device")
SECTIONS = {
    "network": (NetworkOptions,),
    "optimisation": (LoopOptions,),
    "transfer": (TransferOptions,),
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
    check_loading(given.batch_size, given.workers)
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
        raise UserError(f"threshold must be between 0 and 1, not {given.threshold}")
    if given.masks and given.out is None:
        raise UserError("--masks draws pictures; give a folder with --out")
    from ..detection.load import any_detector
    from ..detection.predict import detect_files
    from ..devices import resolve_device

    paths = images_among(given.images)
    model = any_detector(given.model, resolve_device(given.device))
    if given.masks and given.model.endswith(".onnx"):
        raise UserError("an exported detector has no masks; use its run folder")
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
            what = f"{len(one.boxes)} boxes" if one.boxes else f"nothing above {given.threshold:g}"
            print(f"{printable(one.path)}: {what}")
            for name, score, box in one.boxes:
                print(f"  {name}  {100 * score:.1f} %  {', '.join(f'{v:.0f}' for v in box)}")
        for path in drawn:
            print(f"drawn {printable(path)}")
    for error in errors:
        print_error(error)
    return 2 if errors else 0


def _export(argv: list[str]) -> int:
    given = parse(DetectExportArguments, argv, prog="ran detect export", description=EXPORT)
    if given.out.suffix != ".onnx":
        raise UserError(f"OUT must end in .onnx, not {given.out.name}")
    if given.out.is_dir():
        raise UserError(f"{given.out} is a folder; OUT must be a file")
    from ..detection.export import check_images, export_detector
    from ..detection.load import load_detector

    detector = load_detector(given.model)
    images = check_images(detector, given.images)
    difference = export_detector(detector, given.out, images)
    if given.json:
        print(json.dumps({"out": str(given.out), "images": len(images), "largest_difference": difference}))
        return 0
    print(f"{given.out}: {given.out.stat().st_size / 2**20:.1f} MiB, {len(detector.classes)} classes")
    print(f"same boxes as PyTorch in {len(images)} images (largest difference {difference:.1e})")
    return 0


COMMANDS = {"train": _train, "eval": _eval, "predict": _predict, "export": _export}


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
        raise SystemExit(0)
    if argv[0] not in COMMANDS:
        raise UserError(f"no command {argv[0]!r} in `ran detect`; choose from {', '.join(COMMANDS)}")
    return COMMANDS[argv[0]](argv[1:])
