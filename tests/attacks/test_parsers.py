"""Properties of every parser: whatever a file holds, the answer is a result or a UserError, never another exception.

``RAN_EXAMPLES`` sets the number of examples for each parser; ``make torture`` uses thousands.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from residual_attention.boxes.by_image import read_boxes
from residual_attention.checkpoints.card import Card
from residual_attention.checkpoints.format import encode_checkpoint, parse_header, read_checkpoint
from residual_attention.classification.config import TrainConfig
from residual_attention.data.datasets import Dataset
from residual_attention.data.images import read_image
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.shards import index_shard
from residual_attention.detection.config import DetectConfig
from residual_attention.detection.datasets import load_detection
from residual_attention.documents import parse_json, parse_yaml
from residual_attention.errors import UserError
from residual_attention.training.duration import seconds_of

pytestmark = pytest.mark.slow  # run by `make test-slow`

EXAMPLES = int(os.environ.get("RAN_EXAMPLES", "40"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="RAN_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
slowly = settings(fuzzed, max_examples=max(4, EXAMPLES // 3))  # of whole folders

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just("9" * 5000)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)


def answers(parse: Callable[[], Any]) -> Any:
    """The result of a parser, or its UserError."""
    try:
        return parse()
    except UserError as error:
        return error


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` cut, with bytes replaced, removed, doubled or inserted."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(("replace", "cut", "remove", "double", "insert")))
        if kind == "replace" and content:
            content[where] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[where:]
        elif kind == "remove":
            del content[where : where + draw(st.integers(1, 40))]
        elif kind == "double":
            content[where:where] = content[where : where + 40]
        else:
            content[where:where] = draw(st.binary(max_size=20))
    return bytes(content)


def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((12, 9)).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


PICTURES = [picture("PNG"), picture("JPEG"), picture("GIF", "P"), picture("BMP"), picture("TIFF"), picture("WEBP")]
PICTURES += [
    picture("PNG", "P"),
    picture("PPM"),
    picture("TIFF", "L", compression="tiff_lzw"),
    picture("TGA"),
    picture("ICO"),
]


@fuzzed
@given(data=st.data())
def test_images(data: st.DataObject) -> None:
    content = data.draw(damaged(data.draw(st.sampled_from(PICTURES))))
    found = answers(lambda: read_image(io.BytesIO(content), data.draw(st.sampled_from((1, 3))), max_pixels=10**6))
    assert isinstance(found, UserError) or found.mode in ("RGB", "L")


@fuzzed
@given(content=st.binary(max_size=200))
def test_an_upload(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "upload"
    path.write_bytes(content)
    answers(lambda: read_image(path, 3))


TENSORS = {"model.a": torch.arange(6.0).view(2, 3)}
CARD = {
    "model": "attention56_cifar",
    "overrides": {"widths": [16, 16, 16]},
    "classes": ["a", "b"],
    "preprocess": {"image_size": 16, "resize": "crop", "mean": [0.5], "std": [0.25], "crop_pct": 1.0},
    "config": {"data": "digits", "epochs": 3},
    "confidence": {"temperature": 1.5, "curve": [[0.5, 3, 1]]},
}
CHECKPOINT = encode_checkpoint(TENSORS, CARD)


@fuzzed
@given(content=damaged(CHECKPOINT))
def test_a_damaged_checkpoint_is_refused_or_reads_the_same(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    found = answers(lambda: read_checkpoint(path))
    if not isinstance(found, UserError):
        tensors, header = found
        assert torch.equal(tensors["model.a"], TENSORS["model.a"])
        assert {key: header[key] for key in CARD} == CARD


@fuzzed
@given(key=st.sampled_from(sorted(CARD)), value=values)
def test_a_header_with_any_value(key: str, value: Any) -> None:
    answers(lambda: Card.from_header({**CARD, key: value}, "a file"))


@fuzzed
@given(key=st.sampled_from(sorted(CARD["preprocess"])), value=values)  # type: ignore[arg-type]
def test_a_preprocessing_with_any_value(key: str, value: Any) -> None:
    preprocess = {**CARD["preprocess"], key: value}  # type: ignore[dict-item]
    answers(lambda: Card.from_header({**CARD, "preprocess": preprocess}, "a file"))


@fuzzed
@given(text=st.one_of(st.text(), values.map(lambda value: json.dumps(value)[:5000])))
def test_json_and_yaml(text: str) -> None:
    answers(lambda: parse_json(text, "a file"))
    answers(lambda: parse_yaml(text, "a file"))
    answers(lambda: parse_header(text, Path("a file")))
    answers(lambda: seconds_of(text))


@fuzzed
@given(data=st.data(), kind=st.sampled_from((TrainConfig, DetectConfig)))
def test_a_configuration_with_any_value(data: st.DataObject, kind: type[TrainConfig] | type[DetectConfig]) -> None:
    plain = kind(data="digits").to_dict()
    key = data.draw(st.sampled_from(sorted(plain)))
    found = answers(lambda: kind.from_dict({**plain, key: data.draw(values)}))
    assert isinstance(found, UserError | kind)


@fuzzed
@given(boxes=st.one_of(values, st.dictionaries(st.text(max_size=3), st.lists(values, max_size=5), max_size=3)))
def test_boxes(boxes: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "boxes.json"
    path.write_text(json.dumps(boxes))
    answers(lambda: read_boxes(path))


def shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i in range(3):
            for name, content in ((f"{i}.png", PICTURES[0]), (f"{i}.cls", f"{i % 2}".encode())):
                (member := tarfile.TarInfo(name)).size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@fuzzed
@given(content=damaged(shard()))
def test_shards(content: bytes, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path_factory.getbasetemp() / "train-0000.tar").write_bytes(content)
    answers(lambda: index_shard(path))


def folder(root: Path, files: dict[str, bytes]) -> Path:
    """``root`` with exactly these files."""
    for path in sorted(root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@slowly
@given(data=st.data())
def test_class_folders_and_lists(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "classes"
    root.mkdir(exist_ok=True)
    names = st.from_regex(r"\A(train/|val/|)[ab]/[0-9]{1,2}\.(png|jpg|txt)\Z")
    contents = st.sampled_from(PICTURES[:2]) | damaged(PICTURES[0])
    folder(root, data.draw(st.dictionaries(names, contents, max_size=8)))
    rows = data.draw(st.lists(st.lists(st.sampled_from(("path", "label", "a", "b", "a/1.png", '"', "")), max_size=3)))
    (root / "list.csv").write_text("\n".join(map(",".join, rows)))
    for source in (root, root / "list.csv"):
        found = answers(lambda source=source: load_dataset(DataRequest(data=str(source), image_size=8)))
        assert isinstance(found, UserError | Dataset)


VOC = b"""<annotation><filename>0.png</filename><size><width>12</width><height>9</height></size><object><name>a</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"""
COCO = {
    "images": [{"id": 1, "file_name": "0.png", "width": 12, "height": 9}],
    "categories": [{"id": 1, "name": "a"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 7], "area": 56, "iscrowd": 0}],
}
TABLE = b"image,xmin,ymin,xmax,ymax,class\n0.png,1,1,9,8,a\n1.png,2,1,9,8,b\n"
IMAGES = {f"{i}.png": PICTURES[0] for i in range(4)}


def detection_answers(root: Path, files: dict[str, bytes]) -> None:
    root.mkdir(exist_ok=True)
    config = DetectConfig(data=str(folder(root, {**IMAGES, **files})), val_fraction=0.3)
    answers(lambda: load_detection(config))


@slowly
@given(content=damaged(VOC))
def test_voc(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    detection_answers(
        tmp_path_factory.getbasetemp() / "voc", {"0.xml": content, "1.xml": VOC.replace(b"0.png", b"1.png")}
    )


@slowly
@given(
    part=st.sampled_from(sorted(COCO)),
    key=st.sampled_from(("id", "file_name", "bbox", "name", "image_id", "")),
    value=values,
)
def test_coco(part: str, key: str, value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    changed = {**COCO, part: [{**COCO[part][0], key: value}] if key else value}
    content = json.dumps(changed).encode()
    detection_answers(tmp_path_factory.getbasetemp() / "coco", {"annotations.json": content})


@slowly
@given(content=damaged(TABLE))
def test_a_table_of_boxes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    detection_answers(tmp_path_factory.getbasetemp() / "table", {"boxes.csv": content})


@slowly
@given(
    label=damaged(b"0 0.5 0.5 0.2 0.3\n1 0.4 0.4 0.1 0.1\n"), described=damaged(b"names: [a, b]\ntrain: .\nval: .\n")
)
def test_yolo(label: bytes, described: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = {"0.txt": label, "1.txt": b"0 0.5 0.5 0.2 0.3\n", "data.yaml": described}
    detection_answers(tmp_path_factory.getbasetemp() / "yolo", files)
