"""A trained network as a hub folder in timm's layout: ``config.json``, ``model.safetensors`` and a card for readers.

``timm.create_model("local-dir:FOLDER", pretrained=True)`` reads it once `residual_attention.models` is imported. What
timm's layout has no place for (our preprocessing, the run's configuration) lies under a key of its own. timm's
preprocessing pads a letterbox with a colour of its own and scales in its own way: probabilities differ a little.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..atomic import write_atomically
from ..data.preprocess import Preprocess
from ..data.request import Resize
from ..errors import UserError
from ..family import VARIANTS
from ..version import __version__
from .format import FORMAT, CheckpointError

LOCAL, REMOTE = "local-dir:", "hf-hub:"
OWN = "residual_attention"
CONFIG, WEIGHTS_FILE = "config.json", "model.safetensors"
KEPT = ("model", "overrides", "classes", "preprocess", "config", "train_images", "metrics", "plugins")
CROP_MODES: dict[Resize, str] = {"crop": "center", "squash": "squash", "letterbox": "border"}  # ours, timm's


def is_hub(model: str | Path) -> bool:
    """Whether MODEL is a hub's folder or repository."""
    return str(model).startswith((LOCAL, REMOTE))


def read_hub(model: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and card of ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME[@REVISION]``; ours, or timm's of our family.

    Raises:
        UserError: no such folder or repository, another network, or damaged files; in one line.
    """
    folder = _folder_of(str(model))
    try:
        config = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise UserError(f"{model}: there is no {Path(error.filename or WEIGHTS_FILE).name} in it") from None
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointError(f"{model} is damaged: {error}") from error
    return weights, _card(config, str(model))


def _folder_of(model: str) -> Path:
    if model.startswith(LOCAL):
        folder = Path(model.removeprefix(LOCAL))
        if not folder.is_dir():
            raise UserError(f"{model}: there is no folder {folder}")
        return folder
    from huggingface_hub import snapshot_download

    name, _, revision = model.removeprefix(REMOTE).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS_FILE]))
    except Exception as error:  # its HTTP client raises kinds of its own
        raise UserError(f"{model} cannot be fetched: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _card(config: Any, model: str) -> dict[str, Any]:
    """What a checkpoint's header would tell: our own record, or else what timm's fields say."""
    if not isinstance(config, dict) or "architecture" not in config:
        raise CheckpointError(f"{model}: its {CONFIG} names no architecture")
    if config["architecture"] not in VARIANTS:
        raise UserError(f"{model} holds {config['architecture']}, which is no network of this family")
    if OWN in config:
        return _own_card(config[OWN], model)
    try:
        return _card_of_timm(config)
    except CheckpointError as error:
        raise CheckpointError(f"{model}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{model}: its {CONFIG} is not in timm's layout ({error})") from error


def _own_card(own: Any, model: str) -> dict[str, Any]:
    if not isinstance(own, dict) or not isinstance(version := own.get("format"), int):
        raise CheckpointError(f"{model}: its record {OWN} is damaged")
    if version > FORMAT:
        raise CheckpointError(f"{model} was written by a newer version (format {version}); update this one")
    if lacking := [key for key in ("model", "overrides", "classes", "preprocess") if key not in own]:
        raise CheckpointError(f"{model}: its record {OWN} lacks {', '.join(lacking)}")
    return own


def _card_of_timm(config: dict[str, Any]) -> dict[str, Any]:
    plain = config["pretrained_cfg"]
    modes: dict[str, Resize] = {theirs: ours for ours, theirs in CROP_MODES.items()}
    preprocess = Preprocess(
        image_size=plain["input_size"][-1],
        resize=modes.get(plain.get("crop_mode") or "center", "crop"),
        mean=tuple(plain["mean"]),
        std=tuple(plain["std"]),
        crop_pct=plain.get("crop_pct") or 1.0,
    )
    count = config["num_classes"]
    names = config.get("label_names") or [f"class {i}" for i in range(count)]
    classes = [names[str(i)] for i in range(count)] if isinstance(names, dict) else list(names)
    overrides = {**config.get("model_args", {}), "num_classes": count, "in_chans": plain["input_size"][0]}
    if (pool := overrides.pop("global_pool", "avg")) != "avg":
        raise CheckpointError(f"its global pool is {pool}; this package takes avg, timm takes any")
    if (dropout := overrides.pop("drop_rate", None)) is not None:
        overrides["dropout"] = dropout
    card = {"model": config["architecture"], "overrides": overrides, "classes": classes}
    return {"format": FORMAT, **card, "preprocess": preprocess.to_dict()}


def _network(weights: dict[str, Tensor], card: dict[str, Any]) -> nn.Module:
    """The network as timm builds it, so that timm can write it down."""
    import timm

    from .. import models  # noqa: F401 (registers the names)

    preprocess = Preprocess.from_dict(card["preprocess"])
    size = preprocess.image_size
    overlay = {
        "input_size": (preprocess.in_chans, size, size),
        "mean": preprocess.mean,
        "std": preprocess.std,
        "crop_pct": preprocess.crop_pct if preprocess.resize == "crop" else 1.0,  # no other resize of ours reads it
        "crop_mode": CROP_MODES[preprocess.resize],
        "interpolation": "bilinear",
    }
    try:
        network = timm.create_model(card["model"], pretrained_cfg_overlay=overlay, **card["overrides"])
        network.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"the weights are not of the network that is described: {_first_line(error)}") from error
    return network


def _layout(card: dict[str, Any]) -> dict[str, Any]:
    """timm's arguments for writing a model down."""
    own = {"format": FORMAT, "version": __version__, **{key: card[key] for key in KEPT if key in card}}
    own["config"] = {k: v for k, v in own.get("config", {}).items() if k not in ("data_dir", "out", "init")}
    if "data" in own["config"]:
        own["config"]["data"] = Path(own["config"]["data"]).name  # a folder's place is the machine's own
    arguments = {k: v for k, v in card["overrides"].items() if k not in ("num_classes", "in_chans")}
    return {
        "model_config": {"label_names": list(card["classes"]), OWN: own},
        "model_args": {**arguments, "in_chans": card["overrides"].get("in_chans", 3)},
        "safe_serialization": True,
    }


def write_folder(weights: dict[str, Tensor], card: dict[str, Any], folder: Path, source: str | None = None) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``README.md``, each whole or not at all.

    Args:
        weights: in fp32, as `read_model` gives them.
        source: what the card for readers calls the model; ``local-dir:`` and the folder's name by default.

    Raises UserError for a folder that holds something else already.
    """
    from timm.models import save_for_hf

    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
        raise UserError(f"{folder} is not empty, and no hub folder of this family")
    network = _network(weights, card)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        save_for_hf(network, temporary, **_layout(card))
        for name in (WEIGHTS_FILE, CONFIG):
            write_atomically(folder / name, (Path(temporary) / name).read_bytes())
    write_atomically(folder / "README.md", readme(card, source or f"{LOCAL}{folder.name}").encode())


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / CONFIG).read_text())["architecture"] in VARIANTS
    except (OSError, ValueError, KeyError, TypeError):
        return False


def push(weights: dict[str, Tensor], card: dict[str, Any], name: str) -> str:
    """Upload to the repository ``OWNER/NAME``, with the token of ``hf auth login`` or ``HF_TOKEN``. Returns its URL.

    Raises UserError when the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_folder(weights, card, folder, f"{REMOTE}{name}")
        try:
            api = HfApi(library_name="residual-attention", library_version=__version__)
            repository = api.create_repo(name, exist_ok=True)
            api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message=f"{card['model']}")
        except Exception as error:  # its HTTP client raises kinds of its own
            raise UserError(f"{REMOTE}{name} cannot be written: {_first_line(error)}") from error
    return str(repository)


def readme(card: dict[str, Any], source: str) -> str:
    """The card for readers: network, classes, data, how it was trained, what it reached, how it is used, its limits."""
    classes = card["classes"]
    trained = "".join(f"{sentence}\n\n" for sentence in (_trained(card), _reached(card)) if sentence)
    shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    preprocess = card["preprocess"]
    return f"""---
library_name: timm
pipeline_tag: image-classification
tags: [image-classification, timm, attention]
---
# {card["model"]}

Residual Attention Network (Wang et al., CVPR 2017, arXiv 1704.06904): H = (1 + M) * T.

{trained}Images of {preprocess["image_size"]} px ({preprocess["resize"]}). {len(classes)} classes: {shown}.

**Limits.** Every picture is taken for one of these classes, whatever it shows. Pictures unlike those of the training
data are read worse than the figures here tell.

```sh
ran predict {source} photo.jpg
ran attend {source} photo.jpg   # its masks, drawn over the photo
```

```python
import timm
import residual_attention.models  # registers the names

model = timm.create_model("{source}", pretrained=True)
```
"""


def _trained(card: dict[str, Any]) -> str:
    """How, on what and for how long; empty for a network without a run's configuration."""
    if not (config := card.get("config")):
        return ""
    from ..data.sources import SOURCES

    data = config["data"] if config["data"] in SOURCES else "a folder of images"
    count = f" ({card['train_images']:,} images)" if "train_images" in card else ""
    epochs, steps = config.get("epochs"), config.get("steps")
    length = f", {steps:,} steps" if steps else f", {epochs} epochs" if epochs else ""
    seed = f", seed {config['seed']}" if "seed" in config else ""
    return f"Trained with the recipe `{config['recipe']}` on {data}{count}{length}{seed}."


def _reached(card: dict[str, Any]) -> str:
    metrics = card.get("metrics") or {}
    if metrics.get("val_error_pct") is None:
        return ""
    error = f"{metrics['val_error_pct']:.2f} %"
    return f"Error on its validation images, on which epoch {metrics['epoch']} was chosen: {error}."
