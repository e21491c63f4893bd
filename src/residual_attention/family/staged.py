"""What every network of stages can do: timm's verbs, feature maps, gradient checkpointing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .arguments import check_at_least, levels_taken
from .recomputation import recomputed


class StagedNetwork(nn.Module):
    """A network that is a stem, stages with attention modules, final layers and a classifier.

    Attributes:
        stem, stages, final, norm: the body, in this order.
        head: the classifier; `forward_head` runs it.
        feature_info: timm's description of the feature levels, from fine to coarse.
        min_size: the smallest side in pixels that the network takes.
        num_classes, in_chans, num_features, head_hidden_size, pretrained_cfg: timm's.

    Shapes: (B, in_chans, H, W) to (B, num_classes); H and W of at least ``min_size``, any ratio.
    """

    stem: nn.Sequential
    stages: nn.Sequential
    final: nn.Sequential
    norm: nn.Module
    head: nn.Module
    feature_info: list[dict[str, Any]]
    min_size: int
    num_classes: int
    in_chans: int
    pretrained_cfg: dict[str, Any]
    num_features: int
    head_hidden_size: int
    grad_checkpointing: bool = False
    final_is_level: bool = True
    """Whether the output of ``final`` is a feature level, the last one."""
    preactivated: bool = False
    """Whether stages end in raw sums, which a reader of their maps must normalise first."""

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, images: Tensor, /) -> Tensor: ...

    def _check_size(self, x: Tensor) -> None:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or not isinstance(x, Tensor):
            return  # a tracer's sizes are no numbers
        if min(x.shape[-2:]) < self.min_size:
            height, width = x.shape[-2:]
            raise UserError(
                f"images of {height}x{width} px are too small: this network needs at least "
                f"{self.min_size}x{self.min_size} px"
            )

    def _run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        """Run a stage; with gradient checkpointing, each of its modules is recomputed in the backward pass."""
        if not (self.grad_checkpointing and self.training and torch.is_grad_enabled()):
            return stage(x)
        return recomputed(stage, x)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to the last feature map (B, C, h, w)."""
        self._check_size(x)
        x = self.stem(x)
        for stage in self.stages:
            x = self._run_stage(stage, x)
        return self.norm(self._run_stage(self.final, x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def _stem_steps(self) -> list[tuple[nn.Module, bool]]:
        """The stem in order, and whether each part's output is a feature level."""
        raise NotImplementedError

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ):
        """The feature levels of ``feature_info``, in that order (timm's verb).

        Returns ``(last feature map, [maps])``, or the list alone with ``intermediates_only``.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt must be NCHW, not {output_fmt!r}")
        self._check_size(x)
        steps = [*self._stem_steps(), *((stage, True) for stage in self.stages), (self.final, self.final_is_level)]
        of_stem = len(steps) - len(self.stages) - 1
        count = sum(is_level for _, is_level in steps)
        take, last = levels_taken(indices, count)
        maps: list[Tensor] = []
        level = -1
        for i, (part, is_level) in enumerate(steps):
            if stop_early and level >= last:
                break
            x = part(x) if i < of_stem else self._run_stage(part, x)
            level += is_level
            if is_level and level in take:
                maps.append(self.norm(x) if norm and i == len(steps) - 1 else x)
        if intermediates_only:
            return maps
        return (x if stop_early and last < count - 1 else self.norm(x)), maps

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the levels after the last one requested (timm's verb)."""
        count = len(self.feature_info)
        take, last = levels_taken(indices, count)
        beyond = count - 1 - last
        if beyond:
            self.final = nn.Sequential()
            self.stages = self.stages[: max(0, len(self.stages) + self.final_is_level - beyond)]
        if prune_norm or beyond:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return take

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each module's activations in the backward pass: much less memory, about a third more time.

        Gradients and BN running statistics are unchanged.
        """
        self.grad_checkpointing = enable

    @property
    def last_layer(self) -> nn.Module:
        """The layer whose output is the last feature map, which the classifier reads."""
        if not isinstance(self.norm, nn.Identity):
            return self.norm
        return self.final if len(self.final) else self.stages[-1]

    def get_classifier(self) -> nn.Module:
        raise NotImplementedError

    @property
    def classifier_prefix(self) -> str:
        """What the names of the classifier's tensors begin with, such as ``head.fc.``."""
        classifier = self.get_classifier()
        return next(f"{name}." for name, module in self.named_modules() if module is classifier)

    def _reset_head(self, num_classes: int, global_pool: str | None) -> None:
        raise NotImplementedError

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one for ``num_classes`` classes; 0 returns the pooled features."""
        check_at_least("num_classes", num_classes, 0)
        self.num_classes = num_classes
        self._reset_head(num_classes, global_pool)

    def no_weight_decay(self) -> set[str]:
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}
