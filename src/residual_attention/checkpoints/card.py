"""The metadata of a checkpoint: the JSON in its header, typed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from ..data.placement import Placed
from ..data.preprocess import Preprocess, check_constants
from ..errors import UserError
from .confidence import Confidence
from .format import CheckpointError, read_header

CLASSIFICATION, DETECTION = "classification", "detection"
_INSTEAD = {
    CLASSIFICATION: "is a classifier, not a detector; use `ran predict`, or train a detector from it with --init",
    DETECTION: "is a detector, not a classifier; use `ran detect`",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that predict, eval, export and attend need to know about a network besides its weights.

    Attributes:
        task: the network's task, a name in `tasks.TASKS`.
        model: name of the variant; ``overrides``: further arguments of `create_model`.
        classes: class names, in the order of the outputs.
        preprocess: from an image to the network's input; None for a detector, which stores ``mean`` and ``std``
            (one value per channel) and scales images itself.
        config: the run's configuration, as its task's ``from_dict`` reads it; empty for a network without a run.
        train_images: number of images it was trained on.
        metrics: the metrics.csv row of the epoch that the weights come from.
        training: optimizer, schedule and progress; only in a checkpoint that can be resumed.
        plugins: the plugins whose choices the network uses, for `plugins.require`.
        data_digest: digests of the data set by what they cover (`data.digest`); only in a run's checkpoints.
        placed: the split of each image of the run, by its content; None if it was not recorded.
        confidence: how far to trust a classifier's answers; a card without it has temperature 1.
    """

    task: str = CLASSIFICATION
    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...]
    preprocess: Preprocess | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    train_images: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None
    plugins: tuple[str, ...] = ()
    data_digest: Mapping[str, str] = field(default_factory=dict)
    placed: Placed | None = None
    confidence: Confidence = field(default_factory=Confidence)

    @property
    def constants(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each input channel, divided by 255."""
        if self.preprocess is not None:
            return self.preprocess.mean, self.preprocess.std
        assert self.mean is not None
        assert self.std is not None
        return self.mean, self.std

    def require_task(self, task: str, model: str | Path) -> None:
        """Raise CheckpointError, naming ``model``, if the network is for another task."""
        if self.task != task:
            unknown = f"is for the task {self.task!r}, which this version of ran does not know"
            raise CheckpointError(f"{model} {_INSTEAD.get(self.task, unknown)}")

    def to_header(self) -> dict[str, Any]:
        """As JSON values; optional fields that are None or empty are left out."""
        header = {
            "task": self.task,
            "model": self.model,
            "overrides": dict(self.overrides),
            "classes": list(self.classes),
            "config": dict(self.config),
        }
        optional = {
            "preprocess": None if self.preprocess is None else self.preprocess.to_dict(),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "train_images": self.train_images,
            "metrics": dict(self.metrics) or None,
            "training": None if self.training is None else dict(self.training),
            "plugins": list(self.plugins) or None,
            "data_digest": dict(self.data_digest) or None,
            "placed": None if self.placed is None else self.placed.to_dict(),
            "confidence": None if self.confidence == Confidence() else self.confidence.to_dict(),
        }
        return header | {key: value for key, value in optional.items() if value is not None}

    @classmethod
    def from_header(cls, header: Mapping[str, Any], source: str | Path) -> "Card":
        """Inverse of `to_header`. Keys of later versions are ignored; a header without a task is a classifier's.

        Raises CheckpointError, naming ``source``, if the header lacks a key or has an invalid value.
        """
        try:
            preprocess, mean, std = header.get("preprocess"), header.get("mean"), header.get("std")
            card = cls(
                task=str(header.get("task", CLASSIFICATION)),
                model=str(header["model"]),
                overrides=dict(header["overrides"]),
                classes=tuple(map(str, header["classes"])),
                preprocess=None if preprocess is None else Preprocess.from_dict(preprocess),
                mean=None if mean is None else tuple(map(float, mean)),
                std=None if std is None else tuple(map(float, std)),
                config=dict(header.get("config") or {}),
                train_images=header.get("train_images"),
                metrics=dict(header.get("metrics") or {}),
                training=header.get("training"),
                plugins=tuple(map(str, header.get("plugins", ()))),
                data_digest={str(key): str(value) for key, value in (header.get("data_digest") or {}).items()},
                placed=Placed.from_dict(header["placed"]) if "placed" in header else None,
                confidence=Confidence.from_dict(header.get("confidence") or {}),
            )
            if card.mean is not None and card.std is not None:
                check_constants(card.mean, card.std)
        except UserError as error:
            raise CheckpointError(f"{source} is damaged: {error}") from error
        except KeyError as error:
            raise CheckpointError(f"{source} does not describe a network: {error} is missing") from error
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source} is damaged: its header holds {error}") from error
        if card.preprocess is None and (card.mean is None or card.std is None):
            raise CheckpointError(f"{source} does not describe a network: 'preprocess' is missing")
        return card

    def for_inference(self) -> "Card":
        """A copy without training state and metrics."""
        return replace(self, training=None, metrics={}, data_digest={})

    def for_sharing(self) -> "Card":
        """A copy without training state and without this machine's paths and the record of training images.

        Of a data folder, its name is left.
        """
        config = {key: value for key, value in self.config.items() if key not in ("data_dir", "out", "init")}
        if isinstance(data := config.get("data"), str):
            config["data"] = PurePath(data).name
        plugins = tuple(PurePath(plugin).name for plugin in self.plugins)
        placed = None if self.placed is None else self.placed.held_out()
        return replace(self, config=config, training=None, plugins=plugins, data_digest={}, placed=placed)


def read_card(path: Path) -> Card:
    """Read the card of a checkpoint file without its tensors. Raises CheckpointError for any other file."""
    return Card.from_header(read_header(path), path)
