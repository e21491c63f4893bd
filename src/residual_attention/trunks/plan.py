"""What becomes of a trunk: its layout and the sizes of its masks, found once for each trunk."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from ..errors import UserError
from .backbone import SOME_THAT_WORK, Trunk, on_meta
from .chain import NotAChainError, chain_of
from .sizing import Sizing, macs, size_masks, smallest_input
from .stages import Layout, layout_of


@dataclass(frozen=True)
class TrunkPlan:
    """``image_size`` is the side that the trunk was designed for; ``macs`` are the trunk's own at this side."""

    trunk: Trunk
    image_size: int
    layout: Layout
    sizing: Sizing
    macs: int

    def min_size(self, depths: tuple[int, ...]) -> int:
        """The smallest image, in pixels, with masks of these ``depths``."""
        return _min_size(self.trunk, depths)


@lru_cache(maxsize=64)
def plan_of(trunk: Trunk) -> TrunkPlan:
    """Take the trunk apart on the meta device.

    Raises UserError for a network without spatial stages, and names some that have them.
    """
    network = on_meta(trunk)
    known: Any = network.pretrained_cfg
    image_size = int(known["input_size"][-1])
    try:
        if getattr(network, "output_fmt", "NCHW") != "NCHW":
            raise NotAChainError("its features are not maps (B, C, H, W)")
        layout = layout_of(chain_of(network, image_size), image_size)
        if not layout.with_attention:
            raise NotAChainError("none of its stages has a second block")
        images = torch.empty(1, 3, image_size, image_size, device="meta")
        cost = macs(network, images)
    except (NotAChainError, RuntimeError, AttributeError) as error:
        reason = str(error) if isinstance(error, NotAChainError) else "its forward pass cannot be followed"
        raise UserError(
            f"{trunk.name} cannot be a trunk: {reason}; some that can: {', '.join(SOME_THAT_WORK)}"
        ) from error
    return TrunkPlan(trunk, image_size, layout, size_masks(layout.with_attention, cost), cost)


@lru_cache(maxsize=256)
def _min_size(trunk: Trunk, depths: tuple[int, ...]) -> int:
    plan = plan_of(trunk)
    return smallest_input(on_meta(trunk), plan.layout, depths, plan.image_size, 3)
