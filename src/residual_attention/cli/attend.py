"""``ran attend MODEL IMAGE...``: draw the masks of images, or evaluate masks with ``--measure``."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..names import printable
from .arguments import images_among, parse, print_error
from .attend_arguments import AttendArguments, check_arguments

if TYPE_CHECKING:
    from ..attention.attend import AttendOptions
    from ..checkpoints import Classifier

DESCRIPTION = """Show where a model looks: attention masks over images, one figure per image, and a sheet for several.

Maps are drawn on the original pixels, from low to high level. By default they show where the masks support the
predicted class (or each label that a multi-label model finds); for an .onnx file, the mean over their channels. With a
data set or a folder of class folders instead of images, --measure tests how well the maps show what the network uses
and where objects are, and --intervene tests what the network still knows when its masks are replaced."""

IMAGES_DRAWN = 20  # of a data set, unless --limit says otherwise
WIDEST = 60  # characters of the column of paths


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
    from ..attention.sheets import draw_split

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
    print(json.dumps({"images": [], "sheets": files}) if given.json else "\n".join(map(printable, files)))
    return 0


def _draw(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.attend import Attended, attend
    from ..attention.sheets import draw_sheets

    found: list[dict[str, Any]] = []
    good: list[Path] = []
    failed = False
    paths = images_among(given.images)
    width = min(WIDEST, max(len(printable(path)) for path in paths))
    for path, result in zip(paths, attend(model, paths, given.out, _options(given)), strict=True):
        if not isinstance(result, Attended):
            print_error(str(result))
            failed = True
            continue
        good.append(path)
        found.append(result.to_dict())
        if not given.json:
            top = "  ".join(f"{name} {100 * share:.1f} %" for name, share in result.shown) or "none"
            print(f"{printable(result.path):<{width}}  {top}")
            for file in result.files:
                print(f"{'':<{width}}  {printable(file)}")
    sheets = []
    if len(good) > 1:
        known = () if model.card.confidence.several else model.classes  # a folder does not name all labels
        truth = [path.parent.name if path.parent.name in known else None for path in good]
        sheets = [
            str(s) for s in draw_sheets(model, good, given.out, reading=_reading(given), truth=truth, form=given.format)
        ]
    if given.json:
        print(json.dumps({"images": found, "sheets": sheets}))
    elif sheets:
        print(f"{'all images':<{width}}  {printable(' '.join(sheets))}")
    return 2 if failed else 0


def main(argv: list[str]) -> int:
    given = parse(AttendArguments, argv, prog="ran attend", description=DESCRIPTION)
    check_arguments(given)
    from ..checkpoints import load
    from ..checkpoints.exported import ExportedClassifier
    from ..data.sources import SOURCES
    from ..data.table import is_list
    from ..devices import resolve_device

    model = load(given.model, resolve_device(given.device), engine=given.engine)
    if isinstance(model, ExportedClassifier):
        if given.figures or given.before_after:
            asked = (*given.figures, "--before-after")[0]
            raise UserError(f"{asked} needs the PyTorch model, not an .onnx")
        if not any(word.startswith("--reading") for word in argv):
            given = replace(given, reading="mean")  # the class's evidence needs gradients
        print(f"engine: {model.engine}", file=sys.stderr)
    if given.figures:
        from .attend_measures import measured

        return measured(given, model)
    if len(given.images) == 1:
        data = Path(given.images[0])
        if is_list(data) or (given.images[0] in SOURCES and not data.exists()):
            return _draw_data_set(given, model)
    return _draw(given, model)
