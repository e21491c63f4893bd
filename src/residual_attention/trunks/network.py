"""Attention residual learning on a network from timm."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import UserError
from ..family.arguments import per_stage
from ..family.checks import check_counts, check_dropout, check_skip
from ..family.choices import LEARNINGS, MASK_ACTIVATIONS, MASK_STRUCTURES
from ..family.stage_attention import START, StageAttention, StageMask
from ..family.staged import StagedNetwork
from .backbone import NAME, Weights, as_texts, build, trunk_of
from .chain import Link
from .plan import plan_of
from .stages import Stage

OF_THE_WEIGHTS = {"state_dict", "file", "url", "hf_hub_id", "hf_hub_filename", "source", "tag", "custom_load"}
"""Keys of a trunk's ``pretrained_cfg`` that describe its weights, not those of the network around it."""


class TrunkNetwork(StagedNetwork):
    """A convolutional network from timm, with a soft mask branch in each stage of at least two blocks.

    In such a stage x is the first block's output, T the rest of the stage, M a mask branch on x, and
    H = (1 + M) * T (paper, eq. 3). A stage is the blocks whose maps have the same size, from a quarter of the image's
    side on (from 16x16 in networks for small images). Departures from the paper: see `StageAttention`.

    Args:
        num_classes: outputs of the classifier; 0 returns the pooled features.
        in_chans: channels of the input images.
        trunk: a convolutional network from timm, with or without a tag.
        trunk_args: further arguments of ``timm.create_model``, as a mapping or as ``key=value``.
        pretrained: the trunk's weights: True for timm's, or the file or http(s) address of a state dict in timm's
            names.
        mask_depths: poolings in the masks, one for each stage with attention; down to about 7x7 at the trunk's own
            image size by default.
        mask_widths: channels inside the masks; by default a quarter of x's, or less so that all masks together cost at
            most a quarter of the trunk's multiply-accumulates.
        mask_start: the initial bias b of a mask's last convolution; -5 by default, so that M is 0.007
            (+5 for learning=naive, where the identity is M = 1).
        mask_activation, mask_structure, learning, r, skip, dropout: as in `ResidualAttentionNetwork`. Only the *mixed*
            activation can start near the identity.

    Attributes:
        trunk_cfg, pretrained_cfg: the trunk's ``pretrained_cfg``, with its preprocessing.
        modules_per_stage: attention modules in each stage: 1 or 0.

    Shapes: (B, in_chans, H, W) to (B, num_classes); H and W of at least ``min_size``, any ratio.

    Raises:
        UserError: no such trunk, one without spatial stages, weights that are not available, or a value out of range.
    """

    final_is_level = False

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        trunk: str = "resnet50",
        trunk_args: Mapping[str, Any] | Sequence[str] | None = None,
        pretrained: Weights = False,
        mask_depths: int | Sequence[int] | None = None,
        mask_widths: int | Sequence[int] | None = None,
        mask_start: float | None = None,
        mask_activation: str = "mixed",
        mask_structure: str = "encoder_decoder",
        learning: str = "residual",
        r: int = 1,
        skip: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_chans=in_chans, r=r)
        check_skip(skip)
        check_dropout(dropout)
        chosen = trunk_of(trunk, trunk_args)
        plan = plan_of(chosen)
        attended = plan.layout.with_attention
        self.trunk, self.image_size = chosen, plan.image_size
        self.mask_depths = _per_stage("mask_depths", mask_depths, plan.sizing.depths, 0)
        self.mask_widths = _per_stage("mask_widths", mask_widths, plan.sizing.widths, 4)
        for width in self.mask_widths:
            if width % 4:
                raise UserError(f"mask_widths must be multiples of 4, not {width}")
        self.num_classes, self.in_chans = num_classes, in_chans

        fusion = LEARNINGS.value(learning)
        if learning == "input" and any(stage.in_chs != stage.out_chs for stage in attended):
            raise UserError(f"learning=input needs x and T of the same width, which {chosen.name} does not have")
        bias = mask_start if mask_start is not None else START if learning == "naive" else -START
        masks = {
            id(stage): StageMask(
                width=width,
                depth=depth,
                bias=bias,
                r=r,
                skip=skip,
                resample=MASK_STRUCTURES.value(mask_structure),
                activation=MASK_ACTIVATIONS.value(mask_activation),
            )
            for stage, width, depth in zip(attended, self.mask_widths, self.mask_depths, strict=True)
        }
        network = build(chosen, num_classes=num_classes, in_chans=in_chans, dropout=dropout, weights=pretrained)
        self.stem = nn.Sequential(*[_chained(network, stage.links) for stage in plan.layout.stem])
        self.stages = nn.Sequential(
            *[_stage(network, stage, masks.get(id(stage)), fusion) for stage in plan.layout.stages]
        )
        self.final = _chained(network, plan.layout.final)
        self.norm = nn.Identity()
        self.head = _without_body(network, [*plan.layout.stem, *plan.layout.stages], plan.layout.final)
        self.num_features = network.num_features
        self.head_hidden_size = getattr(network, "head_hidden_size", network.num_features)
        self.trunk_cfg = self.pretrained_cfg = _described(network, num_classes, in_chans)
        self.modules_per_stage = tuple(int(bool(stage.trunk)) for stage in plan.layout.stages)
        self.feature_info = _feature_levels(plan.layout.stem, plan.layout.stages)
        resampled = MASK_STRUCTURES.value(mask_structure) and fusion is not None
        self.min_size = plan.min_size(self.mask_depths if resampled else (0,) * len(attended))

    @property
    def resolved(self) -> dict[str, Any]:
        """The arguments that make this network again, whatever the defaults become; without weights and classes."""
        sizes = {"mask_depths": list(self.mask_depths), "mask_widths": list(self.mask_widths)}
        texts = list(as_texts(self.trunk))
        return {"trunk": self.trunk.name, **({"trunk_args": texts} if texts else {}), **sizes}

    def _stem_steps(self) -> list[tuple[nn.Module, bool]]:
        return [(part, True) for part in self.stem]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head.forward_head(x, pre_logits=pre_logits)  # type: ignore[operator]

    def get_classifier(self) -> nn.Module:
        return self.head.get_classifier()  # type: ignore[operator]

    def _reset_head(self, num_classes: int, global_pool: str | None) -> None:
        like = next(self.parameters())
        options = {} if global_pool is None else {"global_pool": global_pool}
        self.head.reset_classifier(num_classes, **options)  # type: ignore[operator]
        self.head.to(like.device, like.dtype)
        self.head.train(self.training)
        self.head_hidden_size = getattr(self.head, "head_hidden_size", self.num_features)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups, from the stem to the last stage; masks and classifier belong to the last."""
        return {
            "stem": r"^stem",
            "blocks": r"^stages\.(\d+)"
            if coarse
            else (
                (r"^stages\.(\d+)\.(0|2)", None),
                (r"^stages\.(\d+)\.(1)\.trunk", None),
            ),
        }


def _per_stage(name: str, given: int | Sequence[int] | None, default: tuple[int, ...], least: int) -> tuple[int, ...]:
    return default if given is None else per_stage(name, given, len(default), least)


def _chained(network: nn.Module, links: Sequence[Link]) -> nn.Sequential:
    """The links as one module; each keeps timm's name, with ``_`` for dots."""
    chain = nn.Sequential()
    for link in links:
        chain.add_module(link.path.replace(".", "_"), network.get_submodule(link.path))
    return chain


def _stage(network: nn.Module, stage: Stage, mask: StageMask | None, fusion: Any) -> nn.Sequential:
    parts = nn.Sequential(_chained(network, stage.before))
    if stage.trunk:
        trunk = _chained(network, stage.trunk)
        parts.append(StageAttention(trunk, stage.in_chs, stage.out_chs, mask if fusion is not None else None, fusion))
    if stage.after:
        parts.append(_chained(network, stage.after))
    return parts


def _without_body(network: nn.Module, stages: Sequence[Stage], final: Sequence[Link]) -> nn.Module:
    """timm's network with its classifier alone; the rest has moved."""
    moved = {link.path.partition(".")[0] for stage in stages for link in stage.links}
    for name in moved | {link.path.partition(".")[0] for link in final}:
        delattr(network, name)
    return network


def _described(network: Any, num_classes: int, in_chans: int) -> dict[str, Any]:
    """timm's ``pretrained_cfg`` of the trunk, for this network: its preprocessing, and where its parts lie here."""
    cfg = {key: value for key, value in dict(network.pretrained_cfg).items() if key not in OF_THE_WEIGHTS}
    classifier = cfg.get("classifier")
    names = (classifier,) if isinstance(classifier, str) else classifier or ()
    sides = tuple(cfg["input_size"][1:])
    changes = {"architecture": NAME, "num_classes": num_classes, "input_size": (in_chans, *sides), "first_conv": None}
    return {**cfg, **changes, "classifier": tuple(f"head.{name}" for name in names)}


def _feature_levels(stem: Sequence[Stage], stages: Sequence[Stage]) -> list[dict[str, Any]]:
    named = [(f"stem.{i}", stage) for i, stage in enumerate(stem)]
    named += [(f"stages.{i}", stage) for i, stage in enumerate(stages)]
    return [{"num_chs": stage.links[-1].chs, "reduction": stage.reduction, "module": name} for name, stage in named]
