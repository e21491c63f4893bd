"""The networks: two plain ones for 32 px, in timm's registry, and each arm's network on the trunk that they make."""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from residual_attention import create_model
from residual_attention.family.staged import StagedNetwork

from .cells import FROM_SCRATCH, WITH_MASKS, Cell, Setting
from .images import Half
from .timed import error_pct, optimizer_of, trained

NETWORKS = {"plain56_cifar": 0.1, "resnet18_cifar": 0.05}  # and the peak rate of their training

default_cfgs = generate_default_cfgs(
    {
        "plain56_cifar": {"input_size": (3, 32, 32), "classifier": "head.fc", "first_conv": "stem.0"},
        "resnet18_cifar": {"input_size": (3, 32, 32), "classifier": "fc", "first_conv": "conv1"},
    }
)


@register_model
def plain56_cifar(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Attention-56 for CIFAR with learning=plain: the paper's baseline."""

    def build(num_classes: int = 50, in_chans: int = 3, **_: Any) -> nn.Module:
        return create_model("attention56_cifar", num_classes, in_chans, learning="plain")

    return build_model_with_cfg(build, "plain56_cifar", pretrained, **arguments)  # type: ignore[arg-type]


@register_model
def resnet18_cifar(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """timm's ResNet-18 with a 3x3 stem of stride 1 and no pool, for 32 px."""

    def build(num_classes: int = 50, in_chans: int = 3, **_: Any) -> nn.Module:
        model = timm.create_model("resnet18", num_classes=num_classes)
        model.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        return model

    return build_model_with_cfg(build, "resnet18_cifar", pretrained, **arguments)  # type: ignore[arg-type]


def pretrained(
    network: str, seed: int, half: Half, setting: Setting, folder: Path, device: torch.device
) -> tuple[Path, float]:
    """The file of a plain network trained on the first half of the classes, and its error there."""
    path = folder / f"{network}_{setting.classes}_{setting.pretrain_minutes:g}min_seed{seed}.safetensors"
    if not path.is_file():
        torch.manual_seed(seed)
        model = timm.create_model(network, num_classes=setting.classes).to(device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        lr = NETWORKS[network]
        optimizer = optimizer_of(model, lr)
        trained(model, optimizer, half.train, setting.batch_size, lr=lr, minutes=setting.pretrain_minutes, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        error = error_pct(model, half.test)
        save_file({k: v.cpu().contiguous() for k, v in model.state_dict().items()}, path, {"error_pct": str(error)})
    with safe_open(path, framework="pt") as file:
        return path, float(file.metadata()["error_pct"])


def network_of(cell: Cell, weights: Path, setting: Setting) -> StagedNetwork:
    """The network of a cell's arm. Without masks it is the trunk alone; from scratch it has no masks either."""
    torch.manual_seed(1000 + cell.seed)
    masks: dict[str, Any] = {} if cell.arm == WITH_MASKS else {"learning": "plain"}
    if cell.arm == WITH_MASKS:
        options = {"mask_start": setting.mask_start, "mask_widths": setting.mask_width}
        masks |= {key: value for key, value in options.items() if value is not None}
    start = False if cell.arm == FROM_SCRATCH else weights
    return create_model("attention_trunk", setting.classes, trunk=cell.network, pretrained=start, **masks)
