"""The ledger of trunks: which of timm's networks can be one, and what the masks cost."""

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from ..errors import UserError
from ..family import list_models
from .backbone import NAME, on_meta, trunk_of
from .network import TrunkNetwork
from .plan import plan_of
from .sizing import macs

WELL_KNOWN = (
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "seresnet50",
    "resnetv2_50",
    "densenet121",
    "vgg16_bn",
    "inception_v3",
    "efficientnet_b0",
    "mobilenetv3_large_100",
    "ghostnet_100",
    "regnety_008",
    "repvgg_a2",
    "darknet53",
    "convnext_tiny",
)


@dataclass(frozen=True)
class TrunkRow:
    """One trunk at ``image_size_px``, with 1000 classes: its own size, and what the masks add in percent.

    ``mask_maps_px``: the side of the map that each mask reads. ``tags``: number of weights that timm has for it.
    """

    name: str
    image_size_px: int
    parameters: int
    macs: int
    added_parameters_pct: float
    added_macs_pct: float
    mask_maps_px: tuple[int, ...]
    tags: int


def trunk_rows(patterns: Iterable[str]) -> Iterator[TrunkRow]:
    """A row for each network from timm whose name matches a pattern and which can be a trunk."""
    import timm

    own = {*list_models(), NAME}
    known = [name for name in timm.list_models() if name not in own]
    for pattern in patterns:
        for name in fnmatch.filter(known, pattern):
            try:
                yield trunk_row(name)
            except UserError:  # it has no stages
                continue


def trunk_row(name: str) -> TrunkRow:
    """Raises UserError for a network that cannot be a trunk."""
    import timm

    trunk = trunk_of(name)
    plan = plan_of(trunk)
    plain = sum(p.numel() for p in on_meta(trunk).parameters())
    size = plan.image_size
    with torch.device("meta"):
        whole = TrunkNetwork(trunk=name).eval()
        cost = macs(whole, torch.empty(1, 3, size, size))
    parameters = sum(p.numel() for p in whole.parameters())
    return TrunkRow(
        name=name,
        image_size_px=size,
        parameters=plain,
        macs=plan.macs,
        added_parameters_pct=100 * (parameters / plain - 1),
        added_macs_pct=100 * (cost / plan.macs - 1),
        mask_maps_px=tuple(stage.size for stage in plan.layout.with_attention),
        tags=len(timm.list_pretrained(name)),
    )
