"""``ran export MODEL OUT``: an ONNX file, a web page or a hub folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..checkpoints.card import CLASSIFICATION
from ..errors import UserError
from ..names import as_argument
from .arguments import parse

DESCRIPTION = """Export a model as one ONNX file with classes and preprocessing inside, checked against PyTorch.

Batch and image size stay variable. ran predict, eval and attend accept the file as MODEL. Alternatively, export to one
web page that classifies photos and draws the masks in a browser (OUT.html), or to a hub folder in timm's layout:
local-dir:FOLDER writes it, hf-hub:OWNER/NAME uploads it; ran and timm read both."""


@dataclass(frozen=True)
class ExportArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors file written by ran, shipped weights by name, or a hub's local-dir:FOLDER."""
    out: tyro.conf.Positional[str]
    """A file OUT.onnx or OUT.html, local-dir:FOLDER, or hf-hub:OWNER/NAME."""
    masks: bool = False
    """Also output the attention masks, one output per module."""
    int8: bool = False
    """Quantize to int8, calibrated on training images."""
    data: str | None = None
    """Data set for the check (test split) and calibration (training split); the model's own by default."""
    data_dir: Path | None = None
    """Folder of a named data set."""
    runtime: Path | None = None
    """For OUT.html: folder with ONNX Runtime for browsers; npm fetches it once by default."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(ExportArguments, argv, prog="ran export", description=DESCRIPTION)
    if given.out.startswith(("local-dir:", "hf-hub:")):
        return _to_hub(given)
    out = Path(given.out)
    if out.suffix not in (".onnx", ".html"):
        raise UserError(f"OUT must be a .onnx or .html file, local-dir:FOLDER or hf-hub:OWNER/NAME, not {out.name!r}")
    if out.is_dir():
        raise UserError(f"{out} is a folder; OUT must be a file")
    if out.suffix == ".html":
        return _to_page(given, out)
    if given.runtime is not None:
        raise UserError("--runtime is for OUT.html")
    from ..export.deploy import deploy

    result = deploy(given.model, out, masks=given.masks, int8=given.int8, data=given.data, data_dir=given.data_dir)
    if given.json:
        print(json.dumps(result))
        return 0
    difference, allowed = result["max_logit_difference"], result["allowed"]
    print(f"logits      differ from PyTorch's by at most {difference:.1e} ({allowed:.1e} allowed)")
    if "fp32_on_images" not in result:
        print("images      not checked: the model's own data set was not found; give one with --data or --data-dir")
    for kind in ("fp32", "int8"):
        if found := result.get(f"{kind}_on_images"):
            print(f"{kind:<11} {_agreement(found)}")
    print(f"written     {result['file']}, {result['bytes'] / 2**20:.1f} MiB, {result['precision']}")
    print(f"use it      ran predict {as_argument(result['file'])} IMAGE...")
    return 0


def _agreement(found: dict[str, float]) -> str:
    if "mean_ap_pct" in found:
        same = f"same labels on {found['same_labels_pct']:.2f} % of {found['images']} test images"
        return f"{same}, mAP {found['mean_ap_pct']:.2f} % (PyTorch {found['pytorch_mean_ap_pct']:.2f} %)"
    same = f"same top class on {found['same_top1_pct']:.2f} % of {found['images']} test images"
    return f"{same}, error {found['error_pct']:.2f} % (PyTorch {found['pytorch_error_pct']:.2f} %)"


def _to_page(given: ExportArguments, out: Path) -> int:
    if given.masks or given.int8 or given.data or given.data_dir:
        raise UserError(
            "--masks, --int8, --data and --data-dir are for .onnx files; a page has its masks anyway, in fp32"
        )
    from ..export.page import export_page

    page = export_page(given.model, out, runtime=given.runtime)
    difference, allowed = page.parity.difference, page.parity.allowed
    if given.json:
        parity = {"max_logit_difference": difference, "allowed": allowed}
        print(json.dumps({"model": given.model, "file": str(page.file), "bytes": page.size, **parity}))
        return 0
    print(f"logits      differ from PyTorch's by at most {difference:.1e} ({allowed:.1e} allowed)")
    print(f"written     {page.file}, {page.size / 2**20:.1f} MiB, with the network and its runtime inside")
    print("use it      open it in a browser, on this computer or a phone; it works offline")
    return 0


def _to_hub(given: ExportArguments) -> int:
    if given.masks or given.int8 or given.data or given.data_dir or given.runtime:
        raise UserError(
            "--masks, --int8, --data, --data-dir and --runtime are for files; a hub stores the network itself"
        )
    from ..checkpoints import read_model
    from ..checkpoints.hub import LOCAL, REMOTE, push, write_folder

    weights, card = read_model(given.model)
    card.require_task(CLASSIFICATION, given.model)
    place = given.out.partition(":")[2]
    if not place:
        raise UserError(f"{given.out} names no {'folder' if given.out == LOCAL else 'repository'}")
    if given.out.startswith(REMOTE):
        place = push(weights, card, place)
    else:
        write_folder(weights, card, Path(place))
    if given.json:
        print(json.dumps({"model": given.model, "out": given.out, "written": place}))
        return 0
    print(f"written     {place}")
    print(f"use it      ran predict {as_argument(given.out)} IMAGE...")
    return 0
