"""The weights that ship with the package, as timm's pretrained tags: ``attention56_cifar.cifar10``."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from ..family.variants import preprocessing

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
HEADER_KEY, PREFIX = "residual_attention", "model."  # of a checkpoint file


def shipped_cfgs() -> dict[str, dict[str, Any]]:
    """timm's ``pretrained_cfg`` by name and tag."""
    return {path.name.removesuffix(".safetensors"): _cfg(path) for path in sorted(WEIGHTS.glob("*.safetensors"))}


def _cfg(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER_KEY])
    preprocess, size = header["preprocess"], header["preprocess"]["image_size"]
    return {
        **preprocessing(header["model"]),
        "file": str(path),
        "input_size": (len(preprocess["mean"]), size, size),
        "mean": tuple(preprocess["mean"]),
        "std": tuple(preprocess["std"]),
        "crop_pct": preprocess["crop_pct"],
        "num_classes": len(header["classes"]),
        "label_names": tuple(header["classes"]),
        "license": "mit",
        "paper_ids": "arXiv:1704.06904",
    }


def plain_weights(weights: dict[str, Tensor], _model: nn.Module) -> dict[str, Tensor]:
    """A state dict in fp32 from one of our checkpoints; any other is returned as it is."""
    if not all(name.startswith(PREFIX) for name in weights):
        return weights
    return {
        name.removeprefix(PREFIX): value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }
