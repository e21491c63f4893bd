"""The named networks in timm's registry, with the weights that ship as their pretrained tags."""

from functools import partial
from typing import Any

from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from ..family import VARIANTS, ResidualAttentionNetwork
from ..family.staged import StagedNetwork
from ..family.variants import preprocessing
from ..trunks.backbone import NAME as TRUNK
from ..trunks.network import TrunkNetwork
from .shipped import plain_weights, shipped_cfgs


def _built(
    network: type[StagedNetwork], global_pool: str = "avg", drop_rate: float | None = None, **arguments: Any
) -> StagedNetwork:
    """Build a network from timm's names for pool and dropout, which timm stores and passes back.

    A trunk keeps its own pool unless another than *avg* is asked for.
    """
    if drop_rate is not None:
        arguments["dropout"] = drop_rate
    model = network(**arguments)
    if global_pool != "avg":
        model.reset_classifier(model.num_classes, global_pool)
    return model


default_cfgs = generate_default_cfgs(
    {
        **{name: {**preprocessing(name), "paper_ids": "arXiv:1704.06904"} for name in VARIANTS},
        **shipped_cfgs(),
        TRUNK: {"classifier": "head.fc", "paper_ids": "arXiv:1704.06904"},
    }
)


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **kwargs: Any):
        arguments = {**VARIANTS[name], **kwargs}
        if "num_classes" not in kwargs:  # the tag decides
            arguments.pop("num_classes", None)
        return build_model_with_cfg(
            partial(_built, ResidualAttentionNetwork),  # type: ignore[arg-type] (any callable works)
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2, 3, 4), "feature_cls": "getter"},
            kwargs_filter=("img_size", "drop_path_rate"),  # type: ignore[arg-type]
            pretrained_filter_fn=plain_weights,
            **arguments,
        )

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"{name} of the Residual Attention Network family (arXiv 1704.06904)."
    register_model(entrypoint)


for _name in VARIANTS:
    _register(_name)


@register_model
def attention_trunk(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> nn.Module:
    """Attention residual learning on ``trunk=``, any convolutional network from timm (arXiv 1704.06904).

    ``pretrained`` loads the weights that timm has for the trunk or, for one of our hub folders, those of the whole.
    """
    source = (
        {}
        if pretrained_cfg is None
        else dict(vars(pretrained_cfg) if isinstance(pretrained_cfg, PretrainedCfg) else pretrained_cfg)
    )
    whole = any(source.get(key) for key in ("file", "hf_hub_id", "url", "state_dict"))
    model = build_model_with_cfg(
        partial(_built, TrunkNetwork, pretrained=pretrained and not whole),  # type: ignore[arg-type]
        TRUNK,
        pretrained and whole,
        pretrained_cfg=pretrained_cfg,  # type: ignore[arg-type]
        feature_cfg={"feature_cls": "getter"},
        kwargs_filter=("img_size", "drop_path_rate"),  # type: ignore[arg-type]
        **kwargs,
    )
    if isinstance(model, TrunkNetwork) and not whole:
        model.pretrained_cfg = {**model.trunk_cfg, **(kwargs.get("pretrained_cfg_overlay") or {})}
        model.default_cfg = model.pretrained_cfg  # type: ignore[assignment]
    return model
