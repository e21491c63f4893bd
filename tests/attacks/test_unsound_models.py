"""A model that cannot give an answer is refused when it is loaded, in one line that names the file and the field."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from residual_attention import create_model, load
from residual_attention.checkpoints import CheckpointError
from residual_attention.checkpoints.format import encode_checkpoint
from residual_attention.checkpoints.load import WEIGHTS_PREFIX, read_model

SMALL: dict[str, Any] = {"num_classes": 2, "widths": [16, 16, 16], "mask_depths": [1, 1, 1], "final_width": 16}
PREPROCESS = {"image_size": 16, "resize": "crop", "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = create_model("attention56_cifar", **SMALL)
    return {WEIGHTS_PREFIX + name: value for name, value in network.state_dict().items()}


@pytest.fixture
def write(tmp_path: Path, weights: dict[str, Tensor]) -> Callable[..., Path]:
    """A checkpoint with changes to its header and to its weights, and digests that match them."""

    def written(header: Mapping[str, Any] | None = None, tensors: Mapping[str, Tensor] | None = None) -> Path:
        card = {"model": "attention56_cifar", "overrides": SMALL, "classes": ["a", "b"], "preprocess": PREPROCESS}
        path = tmp_path / "model.safetensors"
        path.write_bytes(encode_checkpoint({**weights, **(tensors or {})}, {**card, **(header or {})}))
        return path

    return written


def preprocess(**changes: Any) -> dict[str, Any]:
    return {"preprocess": {**PREPROCESS, **changes}}


def overrides(**changes: Any) -> dict[str, Any]:
    return {"overrides": {**SMALL, **changes}}


def test_a_sound_model_is_loaded(write: Callable[..., Path]) -> None:
    assert load(write()).classes == ["a", "b"]


@pytest.mark.parametrize("name", ["head.fc.weight", "stem.0.weight", "norm.bn.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(
    write: Callable[..., Path], weights: dict[str, Tensor], name: str, value: float
) -> None:
    name = next(known for known in weights if known.endswith(name.rpartition(".")[2]))
    broken = weights[name].clone()
    broken.view(-1)[-1] = value
    with pytest.raises(CheckpointError, match=name.removeprefix(WEIGHTS_PREFIX)) as caught:
        load(path := write(tensors={name: broken}))
    assert str(path) in str(caught.value)


def test_large_weights_whose_sum_overflows_are_finite(write: Callable[..., Path], weights: dict[str, Tensor]) -> None:
    name = next(known for known in weights if known.endswith("weight"))
    read_model(write(tensors={name: torch.full_like(weights[name], 3e38)}))


def test_a_negative_variance_is_refused(write: Callable[..., Path], weights: dict[str, Tensor]) -> None:
    name = next(known for known in weights if known.endswith("running_var"))
    with pytest.raises(CheckpointError, match="running_var"):
        load(write(tensors={name: -weights[name]}))


@pytest.mark.parametrize(
    "header, field",
    [
        (preprocess(std=[0.25, 0.0, 0.25]), "std"),
        (preprocess(std=[0.25, -1.0, 0.25]), "std"),
        (preprocess(std=[0.25, 0.25]), "std"),
        (preprocess(std=None), "std"),
        (preprocess(mean=[1e30, 0, 0]), "mean"),
        (preprocess(mean="abc"), "mean"),
        (preprocess(mean=[True, 0, 0]), "mean"),
        (preprocess(image_size=60_000), "image_size"),
        (preprocess(image_size=0), "image_size"),
        (preprocess(image_size=16.5), "image_size"),
        (preprocess(image_size="16"), "image_size"),
        (preprocess(crop_pct=0), "crop_pct"),
        (preprocess(crop_pct=None), "crop_pct"),
        (preprocess(resize=3), "resize"),
        ({"preprocess": [1, 2]}, "damaged"),
        (overrides(modules=[3000, 1, 1]), "modules"),
        (overrides(modules=[10**12, 1, 1]), "modules"),
        (overrides(mask_depths=[10**6, 1, 1]), "mask_depths"),
        (overrides(widths=[10**9, 16, 16]), "widths"),
        (overrides(widths=[16] * 1000), "widths"),
        (overrides(p=10**9), "p "),
        (overrides(num_classes=10**12), "num_classes"),
        (overrides(in_chans="three"), "in_chans"),
        (overrides(unit=[]), "cannot be built"),
        (overrides(dropout="x"), "dropout"),
        ({"classes": ["a", "b", "c"]}, "3 classes for 2 outputs"),
        ({"confidence": {"temperature": -1}}, "temperature"),
        ({"confidence": [1]}, "damaged"),
    ],
)
def test_a_header_that_no_network_can_have_is_refused_by_field(
    write: Callable[..., Path], header: dict[str, Any], field: str
) -> None:
    with pytest.raises(CheckpointError, match=field) as caught:
        load(path := write(header))
    assert str(path) in str(caught.value)


def test_a_header_with_nan_is_not_json(write: Callable[..., Path], tmp_path: Path) -> None:
    text = write(preprocess(crop_pct=0.875)).read_bytes()
    path = tmp_path / "nan.safetensors"
    path.write_bytes(text.replace(b"0.875", b"  NaN"))
    with pytest.raises(CheckpointError, match=r"nan\.safetensors is damaged"):
        load(path)


def test_a_detectors_constants_are_checked_too(write: Callable[..., Path]) -> None:
    from residual_attention.detection.load import load_detector

    detector = {"task": "detection", "preprocess": None, "mean": [0.5] * 3, "config": {"data": "x"}}
    with pytest.raises(CheckpointError, match="std"):
        load_detector(write({**detector, "std": [0.0] * 3}))
    with pytest.raises(CheckpointError, match="weights in its body"):
        load_detector(write({**detector, "std": [0.5] * 3, "config": {"data": "x", "widths": [4096, 4096, 4096]}}))
    with pytest.raises(CheckpointError, match="image_size"):
        load_detector(write({**detector, "std": [0.5] * 3, "config": {"data": "x", "image_size": 10**6}}))


def test_a_hub_folder_is_checked_like_a_file(write: Callable[..., Path], tmp_path: Path) -> None:
    from residual_attention.checkpoints.hub import write_folder

    weights, card = read_model(write())
    write_folder(weights, card, folder := tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    config["residual_attention"]["preprocess"]["std"] = [0.0] * 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        load(f"local-dir:{folder}")
