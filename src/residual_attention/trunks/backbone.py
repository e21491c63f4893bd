"""timm's networks as trunks: their names, arguments and weights."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..family import list_models
from ..hints import did_you_mean
from .hub import hub_offline_if_unreachable

NAME = "attention_trunk"
LOCAL = "local-dir:"
SOME_THAT_WORK = ("resnet18", "resnet50", "convnext_tiny", "efficientnet_b0", "densenet121", "regnety_008", "vgg16_bn")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

Weights = bool | str | Path
"""Where a trunk's weights come from: True for timm's own, a file, an http(s) address, or False for none."""


@dataclass(frozen=True)
class Trunk:
    """A network from timm: its name, with a tag or without, and ``arguments`` for `timm.create_model`."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __hash__(self) -> int:
        return hash((self.name, repr(self.arguments)))  # a value may be a dict

    @property
    def has_tag(self) -> bool:
        return "." in self.name

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.arguments)


def trunk_of(name: str, arguments: Mapping[str, Any] | Sequence[str] | None = None) -> Trunk:
    """The trunk that ``trunk=`` and ``trunk_args=`` name.

    Raises UserError for a name that timm does not have, a network of ours, or an argument that is not ``key=value``.
    """
    import timm

    if not isinstance(name, str) or not name:
        raise UserError(f"trunk must be the name of a network in timm, such as {SOME_THAT_WORK[1]}, not {name!r}")
    plain = name.partition(".")[0]
    if plain in (NAME, *list_models()):
        raise UserError(f"{plain} has masks of its own; it cannot be a trunk")
    if not timm.is_model(plain):
        raise UserError(f"no network named {plain!r} in timm{did_you_mean(plain, timm.list_models())}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(plain)]
    tag = name.partition(".")[2]
    if tag and tag not in tags:
        raise UserError(f"timm has no weights {name!r}; tags of {plain}: {', '.join(tags) or 'none'}")
    return Trunk(name, tuple(_pairs(arguments)))


def _pairs(arguments: Mapping[str, Any] | Sequence[str] | None) -> Iterable[tuple[str, Any]]:
    if isinstance(arguments, Mapping):
        return [(key, tuple(value) if isinstance(value, list) else value) for key, value in arguments.items()]
    return [_pair(text) for text in arguments or ()]


def _pair(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier():
        raise UserError(f"trunk_args are key=value, as timm.create_model takes them, not {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def as_texts(trunk: Trunk) -> tuple[str, ...]:
    """The arguments as ``key=value``, which `trunk_of` reads."""
    return tuple(f"{key}={value!r}" for key, value in trunk.arguments)


def read_local(name: str) -> tuple[Trunk, Path]:
    """The trunk that timm stored in ``local-dir:FOLDER``, and its file of weights.

    Raises UserError if the folder is not in timm's layout.
    """
    folder = Path(name.removeprefix(LOCAL))
    try:
        config = json.loads((folder / "config.json").read_text())
        architecture, arguments = config["architecture"], dict(config.get("model_args") or {})
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{name}: no config.json in timm's layout") from None
    file = next((folder / each for each in WEIGHT_FILES if (folder / each).is_file()), None)
    if file is None:
        raise UserError(f"{name}: no {' or '.join(WEIGHT_FILES)}")
    if arguments.get("global_pool") == "avg":  # every network's own
        del arguments["global_pool"]
    return trunk_of(architecture, {k: v for k, v in arguments.items() if k not in ("num_classes", "in_chans")}), file


def build(trunk: Trunk, *, num_classes: int, in_chans: int = 3, dropout: float = 0.0, weights: Weights = False) -> Any:
    """timm's network, a module with timm's verbs, whole.

    Raises UserError in one line: arguments that do not fit, or weights that are not available.
    """
    import timm

    options: dict[str, Any] = {**trunk.options, "num_classes": num_classes, "in_chans": in_chans}
    if dropout:
        options["drop_rate"] = dropout
    if weights is True and trunk.name not in _with_weights(trunk):
        raise UserError(f"timm has no weights for {trunk.name}; give a file, or start from scratch")
    if weights is not True and weights:
        options["pretrained_cfg_overlay"] = _given_weights(trunk, str(weights))
    timm.models.set_pretrained_download_progress(True)
    try:
        with hub_offline_if_unreachable() if weights is True else nullcontext():
            return timm.create_model(trunk.name, pretrained=bool(weights), **options)
    except TypeError as error:  # an argument that this network does not have
        raise UserError(f"{trunk.name}: {error}") from error
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        if not weights:
            raise UserError(f"{trunk.name}: {_line(error)}") from error
        raise UserError(_unavailable(trunk, weights, error)) from error
    except Exception as error:
        if not weights:
            raise
        raise UserError(_unavailable(trunk, weights, error)) from error  # the hub's clients have their own types


def _with_weights(trunk: Trunk) -> set[str]:
    import timm

    known = timm.list_pretrained(trunk.name.partition(".")[0])
    return {*known, *(name.partition(".")[0] for name in known)}


def _line(error: Exception) -> str:
    return next((line for line in str(error).strip().splitlines() if line), type(error).__name__)


def _unavailable(trunk: Trunk, weights: Weights, error: Exception) -> str:
    if isinstance(error, RuntimeError) and "state_dict" in str(error):
        return f"the weights in {weights} are not those of {trunk.name}: {' '.join(str(error).split())[:200]}"
    if weights is True:
        reason = "the hub cannot be reached" if "LocalEntry" in type(error).__name__ else _line(error)
        how = "give them as a file (--trunk-weights FILE, in Python pretrained=FILE)"
        return f"the weights of {trunk.name} cannot be fetched: {reason}; {how}, or start from scratch"
    return f"the weights {weights} cannot be read: {_line(error)}"


def _given_weights(trunk: Trunk, weights: str) -> dict[str, Any]:
    """What to change in timm's ``pretrained_cfg`` so that it loads a file or an address."""
    import timm
    from timm.models import load_state_dict

    if weights.startswith(("http://", "https://")):
        return {"url": weights, "hf_hub_id": None, "source": "url", "custom_load": False}
    if not Path(weights).is_file():
        raise UserError(f"the trunk's weights {weights} do not exist")
    try:
        state = load_state_dict(weights)
    except Exception as error:  # safetensors and pickle raise their own types
        raise UserError(f"the trunk's weights {weights} cannot be read: {_line(error)}") from error
    found: dict[str, Any] = {"state_dict": state, "custom_load": False}
    cfg = timm.get_pretrained_cfg(trunk.name)
    classifier = cfg.classifier if cfg is not None else None
    first = classifier if isinstance(classifier, str) else (classifier or ("",))[0]
    weight = state.get(f"{first}.weight")
    return found if weight is None else {**found, "num_classes": weight.shape[0]}


def on_meta(trunk: Trunk, in_chans: int = 3) -> Any:
    """The network without storage, in eval mode."""
    with torch.device("meta"):
        return build(trunk, num_classes=1000, in_chans=in_chans).eval()


def preprocessing(trunk: Trunk) -> dict[str, Any]:
    """timm's ``pretrained_cfg`` of the trunk: ``input_size``, ``mean``, ``std``, ``crop_pct`` and others."""
    import timm

    cfg = timm.get_pretrained_cfg(trunk.name)
    return {} if cfg is None else cfg.to_dict()
