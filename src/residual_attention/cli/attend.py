"""``ran attend MODEL IMAGE...``: draw the masks of images, or evaluate masks with ``--measure``."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ..attention.choices import READINGS
from ..errors import UserError
from ..plugins import chosen_from
from .arguments import parse, print_error

if TYPE_CHECKING:
    from ..attention.attend import AttendOptions
    from ..checkpoints import Classifier

DESCRIPTION = """Show where a model looks: attention masks over images, one figure per image, and a sheet for several.

Masks are drawn on the original pixels, from low to high level. --measure takes a data set or a folder of class folders
instead of images, and measures how well masks show what the network uses and where objects are."""

IMAGES_MEASURED, IMAGES_DRAWN = 500, 20  # images of a data set, unless --limit says otherwise


@dataclass(frozen=True)
class AttendArguments:
    model: tyro.conf.Positional[str]
    """MODEL: a run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """Image files, folders or globs, or the name of a data set; with --measure or --response one data set or folder
    of class folders."""
    out: Path = Path("attention")
    """Folder for figures and measurements."""
    reading: str = chosen_from(READINGS, "mean")
    channel: int | None = None
    """Draw this channel of each mask instead of a reading."""
    before_after: bool = False
    """Also draw feature map, mask and masked feature map (the paper's figure 1)."""
    channels: tuple[int, ...] = ()
    """Channels for --before-after; by default the most active one of each module."""
    save_arrays: bool = False
    """Also write each image's masks as a NumPy .npz, module name to (C, h, w)."""
    format: Literal["png", "jpg", "webp"] = "png"
    """Picture format."""
    top_k: int = 5
    """Classes listed for each image."""
    measure: bool = False
    """Measure deletion, insertion and mask statistics on DATA; with --boxes, localisation too."""
    boxes: Path | None = None
    """JSON file: image path below DATA to [x0, y0, x1, y1] in pixels of the image, or to a list of such boxes."""
    limit: int | None = None
    """Number of images from a data set, evenly spaced over the split; by default 500 measured, 20 drawn."""
    split: Literal["test", "val", "train"] = "test"
    """Split of DATA to measure on."""
    data_dir: Path | None = None
    """Folder of a named data set."""
    response: bool = False
    """Draw the mean absolute response of each stage's output on DATA."""
    beside: str | None = None
    """A second MODEL for --response, such as one with naive learning."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    engine: str = "auto"
    """Engine for .onnx files: auto | openvino | onnxruntime; auto takes the fastest one installed."""
    seed: int = 0
    """Seed of the random baseline and of the bootstrap."""
    json: bool = False
    """Print JSON."""
    debug: bool = False
    """Show tracebacks."""


def _check(given: AttendArguments) -> None:
    if not given.images:
        raise UserError("no image or data set given; see `ran attend --help`")
    if given.measure and given.response:
        raise UserError("--measure and --response cannot be combined; give one")
    if (given.measure or given.response) and len(given.images) != 1:
        raise UserError("--measure and --response take one data set or folder")
    if given.boxes and not given.measure:
        raise UserError("--boxes needs --measure")
    if given.beside and not given.response:
        raise UserError("--beside needs --response")
    if given.channels and not given.before_after:
        raise UserError("--channels needs --before-after; --channel draws one channel of each mask")
    if given.top_k < 1 or (given.limit is not None and given.limit < 2):
        raise UserError("top-k must be at least 1 and limit at least 2")
    if given.out.exists() and not given.out.is_dir():
        raise UserError(f"{given.out} is a file; --out must be a folder")


def _reading(given: AttendArguments) -> str | int:
    return given.reading if given.channel is None else given.channel


def _options(given: AttendArguments) -> "AttendOptions":
    from ..attention.attend import AttendOptions

    return AttendOptions(
        reading=_reading(given),
        before_after=given.before_after,
        channels=given.channels,
        save_arrays=given.save_arrays,
        top_k=given.top_k,
        form=given.format,
    )


def _draw_data_set(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.attend import draw_split

    if given.before_after or given.save_arrays:
        raise UserError("--before-after and --save-arrays are for image files, not data sets")
    sheets = draw_split(
        model,
        given.images[0],
        given.out,
        reading=_reading(given),
        data_dir=given.data_dir,
        split=given.split,
        limit=given.limit or IMAGES_DRAWN,
        form=given.format,
    )
    files = [str(sheet) for sheet in sheets]
    print(json.dumps({"images": [], "sheets": files}) if given.json else "all together\t" + " ".join(files))
    return 0


def _draw(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.attend import Attended, attend, draw_sheets
    from ..data.find import find_images

    found: list[dict[str, Any]] = []
    good: list[Path] = []
    failed = False
    for path, result in zip(
        paths := find_images(given.images), attend(model, paths, given.out, _options(given)), strict=True
    ):
        if not isinstance(result, Attended):
            print_error(str(result))
            failed = True
            continue
        good.append(path)
        found.append(result.to_dict())
        if not given.json:
            top = "  ".join(f"{name} {100 * share:.1f} %" for name, share in result.top)
            print(f"{result.path}\t{top}\t{' '.join(result.files)}")
    sheets = []
    if len(good) > 1:
        truth = [path.parent.name if path.parent.name in model.classes else None for path in good]
        sheets = [
            str(s) for s in draw_sheets(model, good, given.out, reading=_reading(given), truth=truth, form=given.format)
        ]
    if given.json:
        print(json.dumps({"images": found, "sheets": sheets}))
    elif sheets:
        print(f"all together\t{' '.join(sheets)}")
    return 2 if failed else 0


def _say(line: str) -> None:
    """Print to stderr, so that stdout holds only the result."""
    print(line, file=sys.stderr, flush=True)


def _measure(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.measure import measure_maps
    from ..attention.measure_files import write_measures
    from .measures import print_measures

    measures = measure_maps(
        model,
        given.images[0],
        data_dir=given.data_dir,
        split=given.split,
        limit=given.limit or IMAGES_MEASURED,
        boxes=given.boxes,
        seed=given.seed,
        say=_say,
    )
    files = write_measures(measures, given.out, model=given.model)
    if given.json:
        print(json.dumps({**measures.to_dict(), "model": given.model}))
    else:
        print_measures(measures)
        print(f"written     {' '.join(str(f) for f in files)}")
    return 0


def _compare_responses(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.figures import draw_responses
    from ..attention.response import responses_on_split
    from ..checkpoints import load
    from ..devices import resolve_device

    models = {given.model: model}
    if given.beside:
        models[given.beside] = load(given.beside, resolve_device(given.device))
    responses = {}
    for name, network in models.items():
        learning = network.card.overrides.get("learning", "residual")
        values = responses_on_split(
            network,
            given.images[0],
            data_dir=given.data_dir,
            split=given.split,
            limit=given.limit or IMAGES_MEASURED,
            say=_say,
        )
        responses[f"{name} ({learning} learning)"] = values
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out / "responses.png"
    draw_responses(responses, out)
    if given.json:
        print(json.dumps({"responses": responses, "file": str(out)}))
        return 0
    for name, values in responses.items():
        print(name + "\t" + "  ".join(f"{stage} {value:.4f}" for stage, value in values.items()))
    print(f"drawn       {out}")
    return 0


def main(argv: list[str]) -> int:
    given = parse(AttendArguments, argv, prog="ran attend", description=DESCRIPTION)
    _check(given)
    from ..checkpoints import load
    from ..checkpoints.exported import ExportedClassifier
    from ..data.sources import SOURCES
    from ..devices import resolve_device

    model = load(given.model, resolve_device(given.device), engine=given.engine)
    if isinstance(model, ExportedClassifier):
        if given.measure or given.response or given.before_after:
            raise UserError("--measure, --response and --before-after need the PyTorch model, not an .onnx")
        print(f"engine: {model.engine}", file=sys.stderr)
    if given.measure:
        return _measure(given, model)
    if given.response:
        return _compare_responses(given, model)
    if len(given.images) == 1 and given.images[0] in SOURCES and not Path(given.images[0]).exists():
        return _draw_data_set(given, model)
    return _draw(given, model)
