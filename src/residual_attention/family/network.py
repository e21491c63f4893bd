"""The network: stem, stages of attention modules, final units, classifier."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from .arguments import per_stage
from .attention import AttentionModule
from .checks import check_counts, check_divisor, check_dropout, check_skip, check_units, stage_widths
from .choices import LEARNINGS, MASK_ACTIVATIONS, MASK_STRUCTURES, STEMS, UNITS
from .head import Head
from .sizes import feature_levels, smallest_input, stage_strides
from .staged import StagedNetwork
from .stems import Stem
from .units import BNReLU


class ResidualAttentionNetwork(StagedNetwork):
    """Residual Attention Network (Wang et al., CVPR 2017); every variant and ablation of the family.

    Stem; for each stage one unit (stride 1 in the first, 2 after) and its attention modules; three
    final units; BN-ReLU; global average pool; dropout; linear.

    Args:
        num_classes: outputs of the classifier; 0 returns the pooled features.
        in_chans: channels of the input images.
        stem, unit, mask_activation, mask_structure, learning: names in `choices`, which describes each (paper,
            section 3.2 and table 1; section 4.1). A network with learning=plain has no masks: it is the pre-activation
            residual network of the same depth and widths, ResNet-164 for m = 4.
        widths: channels of each stage.
        modules: attention modules per stage (one number for all, or one for each).
        mask_depths: downsampling steps in the soft mask branch of each stage.
        final_width, final_stride: the three final units.
        p, t, r: number of units shared before and after, in the trunk, and between poolings in the mask
            (paper, section 3.3, with 1, 2, 1).
        skip: False leaves the skip paths out of the mask branch.
        dropout: probability before the classifier, in [0, 1).

    Shapes: (B, in_chans, H, W) to (B, num_classes); H and W of at least ``min_size``, any ratio.

    Raises:
        UserError: a value or a combination that is not supported, or an image that is too small.
    """

    stem: Stem
    head: Head

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        stem: str = "imagenet",
        widths: Sequence[int] = (256, 512, 1024),
        modules: int | Sequence[int] = 1,
        mask_depths: int | Sequence[int] = (3, 2, 1),
        final_width: int = 2048,
        final_stride: int = 2,
        p: int = 1,
        t: int = 2,
        r: int = 1,
        unit: str = "preact",
        mask_activation: str = "mixed",
        mask_structure: str = "encoder_decoder",
        learning: str = "residual",
        skip: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        style, make_stem = UNITS.value(unit), STEMS.value(stem)
        activation, fusion = MASK_ACTIVATIONS.value(mask_activation), LEARNINGS.value(learning)
        resample = MASK_STRUCTURES.value(mask_structure)
        check_counts(num_classes=num_classes, in_chans=in_chans, p=p, t=t, r=r)
        check_counts(final_width=final_width, final_stride=final_stride)
        check_skip(skip)
        check_dropout(dropout)
        self.widths = stage_widths(widths)
        self.modules_per_stage = per_stage("modules", modules, len(self.widths), 1)
        self.mask_depths = per_stage("mask_depths", mask_depths, len(self.widths), 1)
        check_units(self.modules_per_stage, self.mask_depths, p, t, r)
        check_divisor((*self.widths, final_width), unit, style.divisor)

        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = final_width
        self.p, self.t, self.r = p, t, r
        self.preactivated = True

        attention = partial(
            AttentionModule,
            style=style,
            p=p,
            t=t,
            r=r,
            activation=activation,
            fusion=fusion,
            skip=skip,
            resample=resample,
        )
        self.stem = make_stem(in_chans)
        chs = self.stem.chs
        self.stages = nn.Sequential()
        for width, stride, count, depth in zip(
            self.widths, stage_strides(len(self.widths)), self.modules_per_stage, self.mask_depths, strict=True
        ):
            first = style.unit(chs, width, stride)
            self.stages.append(nn.Sequential(first, *[attention(width, depth) for _ in range(count)]))
            chs = width
        self.final = nn.Sequential(
            style.unit(chs, final_width, final_stride),
            style.unit(final_width, final_width),
            style.unit(final_width, final_width),
        )
        self.norm = BNReLU(final_width) if style.preact else nn.Identity()
        self.head = Head(final_width, num_classes, dropout)

        self.feature_info = feature_levels(self.stem, self.widths, final_width, final_stride)
        masks_resample = resample and fusion is not None
        self.min_size = smallest_input(self.stem, self.mask_depths if masks_resample else ())
        self._initialise()

    @property
    def trunk_depth(self) -> int:
        """Weighted layers along the trunk: 9m(2p + t) + 20 for three stages of m modules (paper, section 4)."""
        units = sum(self.modules_per_stage) * (2 * self.p + self.t) + len(self.widths) + 3
        return 3 * units + 2

    def _initialise(self) -> None:
        """He et al. (2015): normal with fan-out for convolutions; BN to the identity."""
        if next(self.parameters()).is_meta:  # nothing to fill, and ``normal_`` would import torch's compiler
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def _stem_steps(self) -> list[tuple[nn.Module, bool]]:
        return [(layer, i == self.stem.feature) for i, layer in enumerate(self.stem)]

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def _reset_head(self, num_classes: int, global_pool: str | None) -> None:
        self.head.reset(num_classes, global_pool)
        if isinstance(self.head.fc, nn.Linear):
            nn.init.normal_(self.head.fc.weight, std=0.01)
            nn.init.zeros_(self.head.fc.bias)
