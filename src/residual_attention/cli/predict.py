"""``ran predict MODEL IMAGE...``."""

import json
from dataclasses import dataclass

import tyro

from ..errors import UserError
from .arguments import parse, print_error

DESCRIPTION = """Classify images; the most probable classes come first.

IMAGE is a file, a folder (searched recursively) or a quoted glob. If an image cannot be read, it is reported, the
others are still classified, and the exit status is 2."""


@dataclass(frozen=True)
class PredictArguments:
    model: tyro.conf.Positional[str]
    """MODEL: a run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders or globs."""
    top_k: int = 5
    """Classes shown for each image."""
    batch_size: int = 32
    """Images at a time."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    engine: str = "auto"
    """Engine for .onnx files: auto | openvino | onnxruntime; auto takes the fastest one installed."""
    json: bool = False
    """Print one JSON array."""
    debug: bool = False
    """Show tracebacks."""


def _print_table(predictions: list) -> None:
    """Print path, then class and probability, best first, in plain columns that other programs can read."""
    for prediction in predictions:
        top = "  ".join(f"{name} {100 * probability:.1f} %" for name, probability in prediction.top)
        print(f"{prediction.path}\t{top}")


def _print_rich(predictions: list) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", "class", "probability", "then", header_style="bold")
    for prediction in predictions:
        (name, probability), *others = prediction.top
        then = ", ".join(f"{other} {100 * share:.1f} %" for other, share in others)
        table.add_row(prediction.path, name, f"{100 * probability:.1f} %", then)
    Console().print(table, markup=False)


def main(argv: list[str]) -> int:
    given = parse(PredictArguments, argv, prog="ran predict", description=DESCRIPTION)
    if not given.images:
        raise UserError("no image given; see `ran predict --help`")
    if given.top_k < 1 or given.batch_size < 1:
        raise UserError("top-k and batch-size must be at least 1")
    import sys

    from ..checkpoints import load
    from ..classification.predict import predict
    from ..data.find import find_images
    from ..devices import resolve_device

    paths = find_images(given.images)
    model = load(given.model, resolve_device(given.device), engine=given.engine)
    if engine := getattr(model, "engine", None):
        print(f"engine: {engine}", file=sys.stderr)
    predictions, errors = predict(model, paths, top_k=given.top_k, batch_size=given.batch_size)
    for error in errors:
        print_error(error)
    if given.json:
        print(json.dumps([prediction.to_dict() for prediction in predictions]))
    elif sys.stdout.isatty():
        _print_rich(predictions)
    else:
        _print_table(predictions)
    return 2 if errors else 0
