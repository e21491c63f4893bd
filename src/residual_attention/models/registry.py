"""The named variants in timm's registry."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from ..family import VARIANTS, ResidualAttentionNetwork, default_image_size


def _default_cfg(name: str) -> dict[str, Any]:
    size = default_image_size(name)
    imagenet = size == 224
    return {
        "num_classes": VARIANTS[name].get("num_classes", 1000),
        "input_size": (3, size, size),
        "pool_size": None,
        "fixed_input_size": False,
        "crop_pct": 0.875 if imagenet else 1.0,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406) if imagenet else (0.4914, 0.4822, 0.4465),
        "std": (0.229, 0.224, 0.225) if imagenet else (0.2470, 0.2435, 0.2616),
        "first_conv": "stem.0",
        "classifier": "head.fc",
        "paper_ids": "arXiv:1704.06904",
    }


def _network(global_pool: str = "avg", drop_rate: float | None = None, **arguments: Any) -> ResidualAttentionNetwork:
    """Build the network from timm's names for pool and dropout, which timm stores and passes back."""
    if drop_rate is not None:
        arguments["dropout"] = drop_rate
    model = ResidualAttentionNetwork(**arguments)
    if global_pool != "avg":
        model.reset_classifier(model.num_classes, global_pool)
    return model


default_cfgs = generate_default_cfgs({name: _default_cfg(name) for name in VARIANTS})


def _register(name: str) -> None:
    def entrypoint(pretrained: bool = False, **kwargs: Any):
        arguments = {**VARIANTS[name], **kwargs}
        return build_model_with_cfg(
            _network,  # type: ignore[arg-type] (any callable works)
            name,
            pretrained,
            feature_cfg={"out_indices": (0, 1, 2, 3, 4), "feature_cls": "getter"},
            kwargs_filter=("img_size", "drop_path_rate"),  # type: ignore[arg-type]
            **arguments,
        )

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"{name} of the Residual Attention Network family (arXiv 1704.06904)."
    register_model(entrypoint)


for _name in VARIANTS:
    _register(_name)
