"""What the fuzzer calls: each takes the bytes of a file, and answers with a result or a UserError.

A target's ``seeds`` are small sound files, from which the mutations start.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from residual_attention.boxes.by_image import read_boxes
from residual_attention.checkpoints.card import Card
from residual_attention.checkpoints.format import encode_checkpoint, parse_header, read_checkpoint
from residual_attention.data.images import read_image
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.shards import index_shard
from residual_attention.detection.config import DetectConfig
from residual_attention.detection.datasets import load_detection
from residual_attention.documents import parse_json, parse_yaml

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
CARD: dict[str, Any] = {
    "model": "attention56_cifar",
    "overrides": {"widths": [16, 16, 16]},
    "classes": ["a", "b"],
    "preprocess": {"image_size": 16, "resize": "crop", "mean": [0.5], "std": [0.25], "crop_pct": 1.0},
    "config": {"data": "digits", "epochs": 3},
    "confidence": {"temperature": 1.5, "curve": [[0.5, 3, 1]]},
}


@dataclass(frozen=True)
class Target:
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((12, 9)).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def _on_disk(name: str, content: bytes) -> Path:
    (path := FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _folder(name: str, content: bytes) -> Path:
    """Two class folders; the fuzzed file is one image of them."""
    for other in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        if not (FOLDER / "folder" / other).is_file():
            _on_disk(f"folder/{other}", PNG)
    return _on_disk(f"folder/{name}", content).parents[1]


def _detection(root: str, name: str, content: bytes, **others: bytes) -> object:
    for i in range(4):
        if not (FOLDER / root / f"{i}.png").is_file():
            _on_disk(f"{root}/{i}.png", PNG)
    for other, text in others.items():
        _on_disk(f"{root}/{other.replace('_', '.')}", text)
    folder = _on_disk(f"{root}/{name}", content).parent
    return load_detection(DetectConfig(data=str(folder), val_fraction=0.3))


def _shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i in range(2):
            for name, content in ((f"{i}.png", PNG), (f"{i}.cls", f"{i}".encode())):
                (member := tarfile.TarInfo(name)).size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _table(content: bytes) -> object:
    _folder("a/0.png", PNG)
    return load_dataset(DataRequest(data=str(_on_disk("folder/list.csv", content)), image_size=8))


def _header(content: bytes) -> object:
    text = content.decode("utf-8", "surrogateescape")
    return Card.from_header(parse_header(text, Path("a file")), "a file")


PNG = picture("PNG")
VOC = b"""<annotation><filename>0.png</filename><size><width>12</width><height>9</height></size><object><name>a</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"""
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "0.png", "width": 12, "height": 9}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 7], "area": 56, "iscrowd": 0}],
    }
).encode()
BOXES = b'{"a/1.png": [[1, 1, 8, 7]], "a/2.png": []}'
TABLE = b"path,label,split\na/1.png,a,train\na/2.png,a;b,val\nb/1.png,b,train\nb/2.png,,test\n"
ROWS = b"image,xmin,ymin,xmax,ymax,class\n0.png,1,1,9,8,a\n1.png,2,1,9,8,b\n"
LABELS = b"0 0.5 0.5 0.2 0.3\n1 0.4 0.4 0.1 0.1\n"
PICTURES = (
    *(picture(form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO")),
    picture("GIF", "P"),
    picture("PNG", "P"),
    picture("TIFF", "L", compression="tiff_lzw"),
)

TARGETS = {
    "image": Target(lambda content: read_image(io.BytesIO(content), 3, max_pixels=10**6), PICTURES),
    "upload": Target(lambda content: read_image(_on_disk("upload", content), 3, max_pixels=10**6), PICTURES),
    "folder": Target(
        lambda content: load_dataset(DataRequest(data=str(_folder("a/0.png", content)), image_size=8)), (PNG,)
    ),
    "csv": Target(_table, (TABLE, b"a/1.png a\nb/1.png b\n")),
    "voc": Target(lambda content: _detection("voc", "0.xml", content, **{"1_xml": VOC}), (VOC,)),
    "coco": Target(lambda content: _detection("coco", "annotations.json", content), (COCO,)),
    "rows": Target(lambda content: _detection("rows", "boxes.csv", content), (ROWS,)),
    "yolo": Target(lambda content: _detection("yolo", "0.txt", content, classes_txt=b"a\nb\n"), (LABELS,)),
    "boxes": Target(lambda content: read_boxes(_on_disk("boxes.json", content)), (BOXES,)),
    "shard": Target(lambda content: index_shard(_on_disk("train-0000.tar", content)), (_shard(),)),
    "checkpoint": Target(
        lambda content: read_checkpoint(_on_disk("model.safetensors", content)),
        (encode_checkpoint({"model.a": torch.arange(6.0).view(2, 3)}, CARD),),
    ),
    "header": Target(_header, (json.dumps(CARD).encode(),)),
    "json": Target(lambda content: parse_json(content.decode("utf-8", "replace"), "a file"), (COCO, BOXES)),
    "yaml": Target(
        lambda content: parse_yaml(content.decode("utf-8", "replace"), "a file"), (b"a: [1, &x {b: c}]\nd: *x\n",)
    ),
}
