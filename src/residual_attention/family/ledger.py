"""Parameters, multiply-accumulates and depth of a variant, counted on the meta device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .variants import create_model, default_image_size


@dataclass(frozen=True)
class LedgerRow:
    """One network's size: total ``parameters``, and ``macs`` per image (convolutions and linear layer)."""

    name: str
    image_size_px: int
    num_classes: int
    parameters: int
    macs: int
    trunk_depth: int
    modules: tuple[int, ...]


def ledger_row(
    name: str, image_size: int | None = None, num_classes: int | None = None, in_chans: int = 3, **overrides: Any
) -> LedgerRow:
    """Build ``name`` on the meta device and count it at ``image_size`` px (the variant's default if None).

    Raises:
        UserError: as `create_model`, or a size too small for the network.
    """
    size = image_size or default_image_size(name)
    with torch.device("meta"):
        model = create_model(name, num_classes, in_chans, **overrides).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.empty(1, in_chans, size, size))
    return LedgerRow(
        name=name,
        image_size_px=size,
        num_classes=model.num_classes,
        parameters=sum(p.numel() for p in model.parameters()),
        macs=counter.get_total_flops() // 2,
        trunk_depth=model.trunk_depth,
        modules=model.modules_per_stage,
    )
