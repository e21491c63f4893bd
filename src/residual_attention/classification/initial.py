"""Start a classifier from the weights of another: its network and image size come with them."""

from dataclasses import replace
from pathlib import Path

from ..checkpoints.card import CLASSIFICATION
from ..checkpoints.format import CheckpointError
from ..data.listing import is_on_disk, list_images
from ..data.preprocess import Preprocess
from ..data.sampling import suggested_image_size
from ..data.sources import SOURCES
from ..family.staged import StagedNetwork
from ..training.start import Start, read_start
from ..training.trunk import trunk_cfg, trunk_preprocess
from .config import TrainConfig

SIZES_OF_DATA = {"digits": 32, "cifar10": 32, "cifar100": 32}  # px; other data sets are seen at the trunk's
FINER = 2  # times the side that the weights were trained at, for larger images


def read_classifier(config: TrainConfig) -> Start | None:
    """`read_start` for a classifier. Also raises UserError if the checkpoint is a detector."""
    start = read_start(config)
    if start is not None:
        start.card.require_task(CLASSIFICATION, f"--init {start.name}")
    return start


def _suggested(data: Path) -> int:
    """The side in px that suits the images of a folder or list."""
    pairs = list_images(data).splits.values()
    return suggested_image_size([path for of_split in pairs for path, _ in of_split], [])


def started_from(config: TrainConfig, start: Start) -> TrainConfig:
    """The configuration with the network, channels and image side of ``start``; larger images get twice its side."""
    assert start.card.preprocess is not None
    own = start.card.preprocess
    size = config.image_size
    if size is None:
        size = own.image_size
        if config.data not in SOURCES and is_on_disk(Path(config.data)):
            size = min(_suggested(Path(config.data)), FINER * size)
    options = {key: value for key, value in start.network_options.items() if getattr(config, key) is None}
    return replace(
        config,
        model=start.card.model,
        image_size=size,
        in_chans=config.in_chans or own.in_chans,
        init=start.name,
        **options,
    )


def prepared_for_trunk(config: TrainConfig, known: Preprocess | None) -> tuple[TrainConfig, Preprocess | None]:
    """The configuration with the image size and channels of a trunk, and the trunk's preprocessing.

    ``known`` is that of the checkpoint that a run resumes from. Without a trunk nothing changes. A folder of small
    images keeps their size, and a named data set its own.
    """
    if config.trunk is None:
        return config, None
    size, chans = config.image_size or _size_on_trunk(config), config.in_chans or 3
    config = replace(config, image_size=size, in_chans=chans)
    return config, known or trunk_preprocess(config, size, config.resize, chans)


def _size_on_trunk(config: TrainConfig) -> int:
    own = int(trunk_cfg(config)["input_size"][-1])
    if config.data in SOURCES:
        return SIZES_OF_DATA.get(config.data, own)
    return min(own, _suggested(Path(config.data))) if is_on_disk(Path(config.data)) else own


def copy_weights(model: StagedNetwork, start: Start, several: bool = False) -> str:
    """Copy the weights, except a classifier for other classes. Returns a notice.

    ``several``: whether the new network gives any number of labels per image. One that gives one class has learnt its
    logits relative to each other, so that its classifier is no start for labels, nor the other way round.

    Raises CheckpointError when the networks differ anywhere else.
    """
    own = model.state_dict()
    differing = [name for name in own if name not in start.weights or start.weights[name].shape != own[name].shape]
    differing += [name for name in start.weights if name not in own]
    if several != start.card.confidence.several:
        differing += [name for name in own if name.startswith(model.classifier_prefix) and name not in differing]
    others = [name for name in differing if not name.startswith(model.classifier_prefix)]
    if others:
        raise CheckpointError(
            f"--init {start.name}: a different network ({len(others)} tensors differ, {others[0]} first); "
            "leave the network's options out"
        )
    model.load_state_dict({k: v for k, v in start.weights.items() if k not in differing}, strict=False)
    classifier = "; the classifier starts from scratch" if differing else ""
    return f"initial weights from {start.name}{classifier}"
