"""``ran eval MODEL [DATA]``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from .arguments import check_image_size, check_loading, parse

DESCRIPTION = """Evaluate a trained model on a split of a data set: error, loss and calibration, or mAP and F1.

DATA is a named data set, a folder of class folders or a list; by default, the model's own data. Classes are matched by
name, images are preprocessed as in training, and an unreadable image is an error, never skipped."""


@dataclass(frozen=True)
class EvalArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    data: tyro.conf.Positional[str | None] = None
    """Named data set or folder; the model's own data by default."""
    data_dir: Path | None = None
    """Folder of a named data set."""
    split: Literal["test", "val", "train"] = "test"
    """Split to evaluate; a folder without splits is evaluated as a whole."""
    image_size: int | None = None
    """Side of the square input in pixels; the model's own by default."""
    ten_crop: bool = False
    """Average over ten crops (corners, centre, mirrored) instead of the central one."""
    tta: Literal["none", "mirror"] = "none"
    """mirror: also average over each image and its mirror image; reported separately."""
    batch_size: int = 256
    """Images at a time."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision; fp32 by default, so that results do not depend on the machine."""
    workers: int = 0
    """Processes that decode large images."""
    engine: str = "auto"
    """Engine for .onnx files: auto | openvino | onnxruntime; auto takes the fastest one installed."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(EvalArguments, argv, prog="ran eval", description=DESCRIPTION)
    check_image_size(given.image_size)
    check_loading(given.batch_size, given.workers)
    from ..classification.evaluate import evaluate_model

    result = evaluate_model(
        given.model,
        given.data,
        data_dir=given.data_dir,
        split=given.split,
        batch_size=given.batch_size,
        device=given.device,
        precision=given.precision,
        workers=given.workers,
        engine=given.engine,
        image_size=given.image_size,
        ten_crop=given.ten_crop,
        views=given.tta,
    )
    if given.json:
        print(json.dumps(result))
        return 0
    for notice in result["notices"]:
        print(f"note: {notice}")
    if result["engine"] != "pytorch":
        print(f"engine: {result['engine']}")
    if "mean_ap_pct" in result:
        _print_labels(result)
    else:
        _print_errors(result)
    for name, value in result.get("metrics", {}).items():
        print(f"{name} {value:.4f}")
    return 0


def _print_labels(result: dict[str, Any]) -> None:
    """Of a multi-label model: mAP and F1, then a line for each label."""
    from ..classification.multilabel import figures_text

    print(f"{result['data']}, {result['split']}: {result['images']} images with {len(result['classes'])} labels")
    exact = f"every label right in {result['exact_pct']:.1f} % of the images"
    print(f"{figures_text(result)}   {exact}   loss {result['loss']:.4f}")
    if tta := result["tta"]:
        print(f"mirror images averaged: {figures_text(tta)}   loss {tta['loss']:.4f}")
    width = max(map(len, ["label", *result["classes"]]))
    print(f"{'label':<{width}}  images  threshold     AP %     F1 %  precision %  recall %")
    for row in result["per_class"]:
        shares = [
            f"{'–' if (value := row[key]) is None else f'{value:.2f}':>{place}}"
            for key, place in (("ap_pct", 7), ("f1_pct", 7), ("precision_pct", 11), ("recall_pct", 8))
        ]
        print(f"{row['class']:<{width}}  {row['images']:>6}  {row['threshold']:>9.3f}  {'  '.join(shares)}")


def _print_errors(result: dict[str, Any]) -> None:
    from ..classification.interval import error_text

    top5 = "" if result["top5_error_pct"] is None else f"   top-5 error {result['top5_error_pct']:.2f} %"
    print(f"{result['data']}, {result['split']}: {result['images']} images of {len(result['classes'])} classes")
    error = error_text(result | {"error_pct": result["top1_error_pct"]}).strip()
    print(f"error {error}{top5}   loss {result['loss']:.4f}   calibration error {result['ece_pct']:.2f} %")
    if (calibrated := result["calibrated"])["temperature"] != 1:
        print(
            f"with the temperature {calibrated['temperature']:.3f}: loss {calibrated['loss']:.4f}   "
            f"calibration error {calibrated['ece_pct']:.2f} %"
        )
    if tta := result["tta"]:
        print(
            f"mirror images averaged: error {tta['top1_error_pct']:.2f} %   loss {tta['loss']:.4f}   "
            f"calibration error {tta['ece_pct']:.2f} %"
        )
