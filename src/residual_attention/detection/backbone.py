"""A feature pyramid over a network's stages (Lin et al., 2017), for torchvision's detectors."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from ..errors import UserError
from ..family.modes import evaluating
from ..family.staged import StagedNetwork
from ..family.units import BNReLU
from ..hints import did_you_mean
from ..trunks.create import list_models

LEVELS = 5  # maps in the pyramid, each half the size of the previous one
TORCHVISION_NAMES = {"stem.0.": "conv1.", "stem.1.": "bn1.", **{f"stages.{i}.": f"layer{i + 1}." for i in range(4)}}
CHECK_PX = (96, 160)  # multiples of 32, like every padded batch, and of no higher power of two


def finest_of_each_stride(strides: Sequence[int], finest: int) -> list[int]:
    """Indices of the deepest feature map of each stride that is at least ``finest``.

    A network with a smaller total stride gives only its last map.
    """
    last = {stride: i for i, stride in enumerate(strides)}
    return [i for stride, i in sorted(last.items()) if stride >= finest] or [len(strides) - 1]


class CoarserLevels(ExtraFPNBlock):
    """``count`` more levels, each a 3x3 convolution of stride 2 on the previous one."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(count))

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        for i, conv in enumerate(self.convs):
            results.append(conv(torch.relu(results[-1]) if i else results[-1]))
            names.append(f"coarser{i}")
        return results, names


class PyramidBackbone(nn.Module):
    """Images (B, 3, H, W), H and W multiples of 32, to an ordered mapping of `LEVELS` float32 maps (B, channels, h, w).

    ``body`` is a network of ours or a `timm_body`. Ours is read through ``forward_intermediates``, not wrapped by
    ``features_only``, so that its weights and masks keep their names. The stages of a pre-activation network output raw
    sums, so each map passes through BN-ReLU first, except the last, which the network normalises itself. ``frozen``
    keeps all batch normalisation of the body in eval mode with fixed weights. The output is float32 even under
    autocast: anchors and boxes take their dtype from it, and bf16 resolves a corner at 300 px only to 2 px.
    """

    def __init__(self, body: nn.Module, channels: int, *, finest_stride: int, frozen: bool = False) -> None:
        super().__init__()
        self.body = body
        channels_of, strides = _maps_of(body)
        self.indices = finest_of_each_stride(strides, finest_stride)
        widths = [channels_of[i] for i in self.indices]
        self.strides = [strides[i] for i in self.indices]
        while len(self.strides) < LEVELS:
            self.strides.append(2 * self.strides[-1])
        normed = isinstance(body, StagedNetwork) and body.preactivated
        self.norms = nn.ModuleList(BNReLU(width) if normed else nn.Identity() for width in widths[:-1])
        self.norms.append(nn.Identity())
        self.fpn = FeaturePyramidNetwork(
            widths,
            channels,
            CoarserLevels(channels, LEVELS - len(widths)),
            norm_layer=nn.BatchNorm2d,
        )
        self.level_names = [*map(str, range(len(widths))), *(f"coarser{i}" for i in range(LEVELS - len(widths)))]
        self.out_channels = channels
        self.frozen = frozen
        if frozen:
            for norm in self._norms():
                norm.requires_grad_(False)

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.body.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "PyramidBackbone":
        super().train(mode)
        if self.frozen:
            for norm in self._norms():
                norm.eval()
        return self

    def renamed(self, weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """``weights`` under the names used here; the pyramid's names begin with ``prefix``.

        Older checkpoints of ``resnet50`` hold torchvision's network as a stem and four stages.
        """
        body = f"{prefix}body."
        if not hasattr(self.body, "layer1") or f"{body}stem.0.weight" not in weights:
            return weights
        names = {f"{body}{old}": f"{body}{new}" for old, new in TORCHVISION_NAMES.items()}
        return {_with_prefix(name, names): value for name, value in weights.items()}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments) -> None:
        renamed = self.renamed(state_dict, prefix)
        if renamed is not state_dict:
            state_dict.clear()
            state_dict.update(renamed)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _maps(self, images: Tensor) -> list[Tensor]:
        if isinstance(self.body, StagedNetwork):
            return self.body.forward_intermediates(images, self.indices, norm=True, intermediates_only=True)  # type: ignore[return-value]
        maps = self.body(images)
        return [maps[i] for i in self.indices]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        maps = self._maps(images)
        levels = OrderedDict((str(i), norm(x)) for i, (norm, x) in enumerate(zip(self.norms, maps, strict=True)))
        return OrderedDict((name, level.float()) for name, level in self.fpn(levels).items())


def timm_body(name: str, in_chans: int = 3) -> nn.Module:
    """timm's network ``name`` without weights, as ``features_only``: images to a list of maps, from fine to coarse.

    Raises UserError for a name that timm does not know, or for a network whose maps cannot feed a pyramid: it accepts
    a single image size, has no feature maps, or has strides that are not powers of two.
    """
    import timm  # imported here so that predicting with our networks does not wait for it

    if not timm.is_model(name):
        hint = did_you_mean(name, [*list_models(), *timm.list_models()])
        raise UserError(f"no network named {name!r}{hint}; `ran models` lists ours; all other names are timm's")
    try:
        body = timm.create_model(name, pretrained=False, features_only=True, in_chans=in_chans)
        with torch.no_grad(), evaluating(body):
            maps = body(torch.zeros(1, in_chans, *CHECK_PX))
    except Exception as error:  # whatever timm raises for an unsupported size or tag
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name} cannot be a detector's backbone, which must take any image size: {reason}") from error
    for found, channels, stride in zip(maps, *_maps_of(body), strict=True):
        if reason := _objection(tuple(found.shape[1:]), channels, stride):
            raise UserError(f"{name} cannot be a detector's backbone: {reason}")
    return body


def _objection(shape: tuple[int, ...], channels: int, stride: int) -> str | None:
    """What is wrong with a map of an image of `CHECK_PX`. One missing cell (no padding) is accepted."""
    expected = (channels, CHECK_PX[0] // stride, CHECK_PX[1] // stride)
    if stride & (stride - 1):
        return f"its maps have stride {stride}, which is not a power of two"
    if any(abs(side - wanted) > off for side, wanted, off in zip(shape, expected, (0, 1, 1), strict=True)):
        return f"its map at stride {stride} is {'x'.join(map(str, shape))}, not {'x'.join(map(str, expected))}"
    return None


def _maps_of(body: nn.Module) -> tuple[list[int], list[int]]:
    """Channels and strides of every map of a body."""
    info = body.feature_info
    if isinstance(body, StagedNetwork):
        return [level["num_chs"] for level in info], [level["reduction"] for level in info]  # type: ignore[union-attr]
    return info.channels(), info.reduction()  # type: ignore[union-attr, operator]


def _with_prefix(name: str, prefixes: dict[str, str]) -> str:
    """``name`` with the first matching prefix of ``prefixes`` replaced."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
