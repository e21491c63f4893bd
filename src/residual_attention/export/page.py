"""A classifier as one web page: network, runtime and preprocessing inside, nothing loaded from anywhere."""

import base64
import gzip
import json
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from ..atomic import write_atomically
from ..attention.masks import attention_modules, masks_are_signed
from ..attention.overlay import LEAST_SPAN
from ..checkpoints import Classifier, load
from ..checkpoints.exported import MASK_PREFIX, ExportedClassifier
from ..errors import UserError
from ..palette import SIGNED, UNSIGNED
from .onnx import Parity, export_onnx, require_exporter
from .runtime import Runtime, web_runtime

PACKAGE = __name__.rpartition(".")[0]
LEVELS = {1: ["mask"], 2: ["low level", "high level"], 3: ["low level", "middle level", "high level"]}


@dataclass(frozen=True)
class Page:
    """The file written: ``parity`` of the network inside with PyTorch, and its size."""

    file: Path
    parity: Parity
    size: int


def _packed(content: bytes) -> str:
    """gzip, then base64: the browser undoes both."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _colours(signed: bool) -> list[int]:
    """256 colours of the figures' palette as 768 bytes."""
    table = matplotlib.colormaps[SIGNED if signed else UNSIGNED](np.linspace(0, 1, 256))[:, :3]
    return np.round(255 * table).astype(int).flatten().tolist()


def _masks(modules: list[str]) -> list[dict[str, str]]:
    """The network's mask outputs, by level; by number where there are more than three modules."""
    names = LEVELS.get(len(modules), [f"module {i + 1}" for i in range(len(modules))])
    return [
        {"output": MASK_PREFIX + module, "module": module, "name": name}
        for module, name in zip(modules, names, strict=True)
    ]


def page_html(network: Classifier, onnx: bytes, runtime: Runtime) -> str:
    """The page of a network whose ONNX file with masks is ``onnx``."""
    signed = masks_are_signed(network)
    card: dict[str, Any] = {
        "classes": network.classes,
        "preprocess": network.preprocess.to_dict(),
        "masks": _masks(list(attention_modules(network))),
        "signed": signed,
        "least_span": LEAST_SPAN,
        "temperature": network.card.confidence.temperature,
        "thresholds": network.card.confidence.thresholds,
        "least_likeness": network.card.confidence.least_likeness,
        "colours": _colours(signed),
    }
    environment = Environment(loader=PackageLoader(PACKAGE, "templates"), autoescape=select_autoescape(["html.j2"]))
    return environment.get_template("page.html.j2").render(
        model=network.card.model,
        classes=len(network.classes),
        names=network.classes,
        several=network.card.confidence.several,
        card=json.dumps(card).replace("<", "\\u003c"),
        script=(files(PACKAGE) / "templates" / "page.js").read_text(encoding="utf-8"),
        onnx=_packed(onnx),
        runtime=_packed(runtime.script),
        wasm=_packed(runtime.binary),
    )


def export_page(model: str, out: Path, *, runtime: Path | None = None) -> Page:
    """Write MODEL as one self-contained page that classifies photos in a browser and draws the masks over them.

    The network inside is checked against PyTorch first, as in `export_onnx`. ``runtime``: a folder with ONNX Runtime
    for browsers; by default npm fetches it once.

    Raises:
        UserError: unknown or already exported model, or no runtime.
        ExportError: the network's logits differ from PyTorch's; nothing is written.
    """
    require_exporter()
    network = load(model)
    if isinstance(network, ExportedClassifier):
        raise UserError(f"{model} is already exported; a page is made from its checkpoint")
    found = web_runtime(runtime)
    size, chans = network.preprocess.image_size, network.preprocess.in_chans
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "network.onnx"
        masks = bool(attention_modules(network))
        parity = export_onnx(network, network.card.for_sharing(), plain, image_size=size, in_chans=chans, masks=masks)
        html = page_html(network, plain.read_bytes(), found).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, html)
    return Page(out, parity, len(html))
