"""A trained network as a hub folder in timm's layout: ``config.json``, ``model.safetensors`` and a model card.

``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads it after `residual_attention.models` is
imported. Data that timm's layout has no field for (our preprocessing, the run's configuration) are stored under a
separate key. timm's preprocessing pads letterboxes with another colour and scales differently, so probabilities differ
slightly.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..atomic import write_atomically
from ..data.preprocess import CROP_MODES, Preprocess
from ..data.request import Resize
from ..documents import DAMAGE
from ..errors import UserError
from ..trunks.create import constructor, list_models
from ..version import __version__
from .card import Card
from .format import DIGEST_KEY, FORMAT, HEADER_DIGEST_KEY, CheckpointError, check_version, sha256_of

LOCAL, REMOTE = "local-dir:", "hf-hub:"
OWN = "residual_attention"
CONFIG, WEIGHTS_FILE = "config.json", "model.safetensors"


def is_hub(model: str | Path) -> bool:
    """Whether MODEL is a hub folder or repository."""
    return str(model).startswith((LOCAL, REMOTE))


def read_hub(model: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Read weights and card of ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME[@REVISION]``, written by us or by timm.

    Raises:
        UserError: no such folder or repository, a network of another family, or damaged files.
    """
    folder = _folder_of(str(model))
    try:
        config = json.loads((folder / CONFIG).read_text())
        weights, has_digests = _read_weights(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise UserError(f"{model}: {Path(error.filename or WEIGHTS_FILE).name} not found") from None
    except (ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{model} is damaged: {error}") from error
    card = _card(config, str(model))
    _check_digests(config, weights, str(model), has_digests)
    return weights, card


def _read_weights(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The tensors, and whether the file says that ``config.json`` holds digests."""
    with safe_open(path, framework="pt") as file:
        return load_file(path), OWN in (file.metadata() or {})


def _check_digests(config: Any, weights: dict[str, Tensor], model: str, expected: bool) -> None:
    """Raise CheckpointError if the weights or our record differ from their digests.

    Folders written before there were digests, or by timm, have none and pass; where they are ``expected`` they must be.
    """
    own = config.get(OWN) if isinstance(config, dict) else None
    if not isinstance(own, dict) or DIGEST_KEY not in own:
        if expected:
            raise CheckpointError(f"{model} is damaged: {CONFIG} has lost its SHA-256")
        return
    described = {key: value for key, value in own.items() if key not in (DIGEST_KEY, HEADER_DIGEST_KEY)}
    if own.get(HEADER_DIGEST_KEY) != _record_digest(described, config):
        raise CheckpointError(f"{model} is damaged: {CONFIG} does not match its SHA-256")
    if own[DIGEST_KEY] != sha256_of(weights.items(), ""):
        raise CheckpointError(f"{model} is damaged: {WEIGHTS_FILE} does not match its SHA-256")


def _record_digest(own: dict[str, Any], config: dict[str, Any]) -> str:
    """SHA-256 of our record and of timm's fields that determine what the network answers."""
    theirs = {key: config.get(key) for key in ("architecture", "num_classes", "label_names", "model_args")}
    return sha256_of((), json.dumps([own, theirs, config.get("pretrained_cfg")], sort_keys=True))


def _folder_of(model: str) -> Path:
    if model.startswith(LOCAL):
        folder = Path(model.removeprefix(LOCAL))
        if not folder.is_dir():
            raise UserError(f"{model}: folder {folder} not found")
        return folder
    from huggingface_hub import snapshot_download

    name, _, revision = model.removeprefix(REMOTE).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS_FILE]))
    except Exception as error:  # the HTTP client raises its own exception types
        raise UserError(f"{model} cannot be fetched: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _card(config: Any, model: str) -> Card:
    """The card from our own record if there is one, otherwise from timm's fields."""
    if not isinstance(config, dict) or "architecture" not in config:
        raise CheckpointError(f"{model}: its {CONFIG} names no architecture")
    if not isinstance(config["architecture"], str) or config["architecture"] not in list_models():
        raise UserError(f"{model} holds {config['architecture']}, which is not a network of this family")
    if OWN in config:
        return _own_card(config[OWN], model)
    try:
        return _card_of_timm(config)
    except CheckpointError as error:
        raise CheckpointError(f"{model}: {error}") from None
    except DAMAGE as error:
        raise CheckpointError(f"{model}: its {CONFIG} is not in timm's layout ({error})") from error


def _own_card(own: Any, model: str) -> Card:
    if not isinstance(own, dict) or not isinstance(version := own.get("format"), int):
        raise CheckpointError(f"{model}: its record {OWN} is damaged")
    check_version(version, model)
    return Card.from_header(own, f"{model}, its record {OWN},")


def _card_of_timm(config: dict[str, Any]) -> Card:
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
        raise CheckpointError(f"its global pool is {pool}; this package supports only avg, timm supports others")
    if (dropout := overrides.pop("drop_rate", None)) is not None:
        overrides["dropout"] = dropout
    return Card(model=config["architecture"], overrides=overrides, classes=tuple(classes), preprocess=preprocess)


def _network(weights: dict[str, Tensor], card: Card) -> nn.Module:
    """Build the network with timm, so that timm can save it."""
    import timm

    from .. import models  # noqa: F401 (registers the names)

    preprocess = card.preprocess
    assert preprocess is not None
    constructor(card.model, **card.overrides)  # timm would take other names and arguments too
    try:
        network = timm.create_model(card.model, pretrained_cfg_overlay=preprocess.as_timm(), **card.overrides)
        network.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"the weights do not match the network described: {_first_line(error)}") from error
    return network


def _layout(card: Card) -> dict[str, Any]:
    """The arguments of timm's ``save_for_hf``."""
    kept = card.for_sharing().to_header()
    arguments = {k: v for k, v in card.overrides.items() if k not in ("num_classes", "in_chans")}
    return {
        "model_config": {
            "label_names": list(card.classes),
            OWN: {"format": FORMAT, "version": __version__, **kept},
        },
        "model_args": {**arguments, "in_chans": card.overrides.get("in_chans", 3)},
        "safe_serialization": True,
    }


def write_folder(weights: dict[str, Tensor], card: Card, folder: Path, source: str | None = None) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``README.md``, each atomically.

    Args:
        weights: in fp32, as `read_model` returns them.
        source: the model's name in the model card; ``local-dir:`` and the folder's name by default.

    Raises UserError if the folder already holds other files.
    """
    from timm.models import save_for_hf

    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
        raise UserError(f"{folder} is not empty and is not a hub folder of this family")
    network = _network(weights, card)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        save_for_hf(network, temporary, **_layout(card))
        _write_digests(Path(temporary))
        for name in (WEIGHTS_FILE, CONFIG):
            write_atomically(folder / name, (Path(temporary) / name).read_bytes())
    write_atomically(folder / "README.md", readme(card, source or f"{LOCAL}{folder.name}").encode())


def _write_digests(folder: Path) -> None:
    """Add the digests to ``config.json``, as timm has written it."""
    config = json.loads((folder / CONFIG).read_text())
    own = config[OWN]
    own[HEADER_DIGEST_KEY] = _record_digest(dict(own), config)
    weights = load_file(folder / WEIGHTS_FILE)
    own[DIGEST_KEY] = sha256_of(weights.items(), "")
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt", OWN: f"{CONFIG} holds digests"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2))


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / CONFIG).read_text())["architecture"] in list_models()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def push(weights: dict[str, Tensor], card: Card, name: str) -> str:
    """Upload to the repository ``OWNER/NAME``, with the token of ``hf auth login`` or ``HF_TOKEN``. Returns its URL.

    Raises UserError if the hub cannot be reached or rejects the upload.
    """
    from huggingface_hub import HfApi

    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_folder(weights, card, folder, f"{REMOTE}{name}")
        try:
            api = HfApi(library_name="residual-attention", library_version=__version__)
            repository = api.create_repo(name, exist_ok=True)
            api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message=card.model)
        except Exception as error:  # the HTTP client raises its own exception types
            raise UserError(f"{REMOTE}{name} cannot be written: {_first_line(error)}") from error
    return str(repository)


def readme(card: Card, source: str) -> str:
    """The model card: network, classes, training, results, usage and limits."""
    classes = card.classes
    trained = "".join(f"{sentence}\n\n" for sentence in (_trained(card), _reached(card)) if sentence)
    several = card.confidence.several
    limits = (
        "The network never gives a label that its training data does not have. Each label has its own threshold, in "
        "`config.json` (timm's tools do not read it: take the sigmoid of each logit)."
        if several
        else "The network assigns every image to one of these classes, whatever it shows."
    )
    what = "labels, any number per image" if several else "classes"
    shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    preprocess = card.preprocess
    assert preprocess is not None
    return f"""---
library_name: timm
pipeline_tag: image-classification
tags: [image-classification, timm, attention]
---
# {card.model}

Residual Attention Network (Wang et al., CVPR 2017, arXiv 1704.06904): H = (1 + M) * T.

{trained}Images of {preprocess.image_size} px ({preprocess.resize}). {len(classes)} {what}: {shown}.

**Limits.** {limits} On images unlike the
training data, it is wrong more often than the numbers here suggest.

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


def _trained(card: Card) -> str:
    """The training run in one sentence; empty if the card has no configuration."""
    if not (config := card.config):
        return ""
    from ..data.sources import SOURCES

    data = config["data"] if config["data"] in SOURCES else "a folder of images"
    count = "" if card.train_images is None else f" ({card.train_images:,} images)"
    epochs, steps = config.get("epochs"), config.get("steps")
    length = f", {steps:,} steps" if steps else f", {epochs} epochs" if epochs else ""
    seed = f", seed {config['seed']}" if "seed" in config else ""
    return f"Trained with the recipe `{config['recipe']}` on {data}{count}{length}{seed}."


def _reached(card: Card) -> str:
    metrics = card.metrics
    names = {"val_error_pct": "Validation error", "val_map_pct": "Validation mAP"}
    if (key := next((key for key in names if metrics.get(key) is not None), None)) is None:
        return ""
    return f"{names[key]}: {metrics[key]:.2f} %, at epoch {metrics['epoch']}, which was selected on the same images."
