"""``ran predict MODEL IMAGE...``."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ..errors import UserError
from .arguments import images_among, parse, print_error

if TYPE_CHECKING:
    from ..checkpoints import Classifier
    from ..classification.predict import Prediction, Unread

Views = Literal["none", "mirror"]  # classification.views, which imports torch

DESCRIPTION = """Classify images; the most probable classes come first. A multi-label model gives all labels that reach
their thresholds, or none.

IMAGE is a file, a folder (searched recursively) or a quoted glob. If an image cannot be read, it is reported, the
others are still classified, and the exit status is 2."""


@dataclass(frozen=True)
class PredictArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders or globs."""
    top_k: int = 5
    """Classes shown for each image."""
    batch_size: int = 32
    """Images at a time."""
    csv: Path | None = None
    """Write a table to this file: path, class, probability, then the next classes; for a multi-label model path,
    labels, and each label's probability."""
    sort_into: Path | None = None
    """Copy each image to DIR/<class>/. Originals stay where they are; no file is overwritten."""
    tta: Views = "none"
    """mirror: average over each image and its mirror image, which takes twice as long."""
    min_confidence: str | None = None
    """Answer "unsure" below this probability, such as 0.8; a multi-label model gives every label that reaches it."""
    max_error: str | None = None
    """Answer "unsure" as often as needed to keep the error at or below this, such as 2%; the threshold is chosen on the
    model's validation images."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    engine: str = "auto"
    """auto | torch | openvino | onnxruntime. auto runs an .onnx file on the fastest one installed, and compiles any
    other model for it if there are enough images for that to pay off."""
    json: bool = False
    """Print one JSON array."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(PredictArguments, argv, prog="ran predict", description=DESCRIPTION)
    if not given.images:
        raise UserError("no image given; see `ran predict --help`")
    if given.top_k < 1 or given.batch_size < 1:
        raise UserError("top-k and batch-size must be at least 1")
    from ..checkpoints import load
    from ..classification.answers import check_csv, check_sorting, text_lines
    from ..classification.predict import predict
    from ..classification.threshold import choose_threshold
    from ..devices import resolve_device
    from ..export.engine import fastest

    if given.csv:
        check_csv(given.csv)
    if given.sort_into:
        check_sorting(given.sort_into, given.images)
    paths = images_among(given.images)
    model = load(given.model, resolve_device(given.device), engine=given.engine)
    if engine := getattr(model, "engine", None):
        _note(f"engine: {engine}")
    several = model.card.confidence.several
    if several and given.sort_into:
        raise UserError("--sort-into needs a model with one class per image; this model is multi-label: use --csv")
    chosen = fastest(model, len(paths), given.engine)
    if chosen.note:
        _note(chosen.note)
    model = chosen.model
    if given.tta == "mirror" and model.card.config.get("flip") is False:
        _note("note: this model was trained without mirrored images; --tta mirror may make it less accurate")
    threshold = choose_threshold(model.card.confidence, given.min_confidence, given.max_error)
    if threshold is not None:
        _note(threshold.note)
    predictions, unread = predict(
        model,
        paths,
        top_k=len(model.classes) if several and given.csv else given.top_k,
        batch_size=given.batch_size,
        views=given.tta,
        least=None if threshold is None else threshold.least,
    )
    for failure in unread:
        print_error(failure.reason)
    if given.json:
        print(json.dumps([prediction.to_dict() for prediction in predictions]))
    elif not (given.csv or given.sort_into):
        print("\n".join(text_lines(predictions)))
    if given.csv:
        _write_table(given.csv, model, predictions, unread)
    if given.sort_into:
        _sort(predictions, given.sort_into)
    return 2 if unread else 0


def _write_table(
    out: Path, model: "Classifier", predictions: Sequence["Prediction"], unread: Sequence["Unread"]
) -> None:
    from ..classification.answers import write_csv, write_labels_csv

    if model.card.confidence.several:
        write_labels_csv(predictions, unread, model.classes, out)
    else:
        write_csv(predictions, unread, out)
    _note(f"table: {out}, {len(predictions) + len(unread)} rows")


def _sort(predictions: Sequence["Prediction"], into: Path) -> None:
    from ..classification.answers import sort_into

    copied, there = sort_into(predictions, into)
    _note(f"copied {copied} images into {into}" + (f", {there} were already there" if there else ""))


def _note(line: str) -> None:
    print(line, file=sys.stderr)
