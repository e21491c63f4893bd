"""A detection data set from a folder: its form, its splits, its classes, what is wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..checkpoints.card import Card
from ..data.randomness import torch_generator
from ..errors import UserError
from ..hints import did_you_mean
from .annotations import Picture, Pictures, Problems, checked, class_names
from .coco import find_coco, read_coco
from .config import DetectConfig
from .voc import find_voc, read_voc, voc_splits


@dataclass(frozen=True)
class DetectionDataset:
    """``form`` is voc or coco; ``problems`` what the sanity pass found in all splits."""

    name: str
    form: str
    classes: tuple[str, ...]
    train: Pictures | None
    val: Pictures | None
    test: Pictures | None
    notices: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


@dataclass(frozen=True)
class Layout:
    """A folder's form and a reader for each split that it has."""

    form: str
    readers: dict[str, Callable[[Problems], list[Picture]]]
    notices: list[str] = field(default_factory=list)


def find_layout(root: Path) -> Layout:
    """Raises UserError when the folder is in neither form."""
    if root.is_file():
        if root.suffix != ".json":
            raise UserError(f"{root} is neither a folder nor a COCO annotation file")
        return Layout("coco", {"all": lambda problems: read_coco(root, problems)})
    if not root.is_dir():
        close = did_you_mean(root.name, (path.name for path in root.parent.iterdir())) if root.parent.is_dir() else ""
        raise UserError(f"no folder at {root}{close}")
    if voc := find_voc(root):
        return _voc_layout(voc)
    files = find_coco(root)
    if not files:
        raise UserError(
            f"{root} holds neither PASCAL VOC's Annotations folder nor COCO's annotation files "
            "(annotations/instances_train*.json, train/_annotations.coco.json or train.json)"
        )
    notices = []
    if "test" not in files and "val" in files and files["val"].name.startswith("instances_val"):
        files["test"] = files.pop("val")
        notices.append("COCO's val is reported as the test; validation images come from training")
    readers = {split: lambda problems, file=file: read_coco(file, problems) for split, file in files.items()}
    return Layout("coco", readers, notices)


def _voc_layout(root: Path) -> Layout:
    lists = voc_splits(root)
    if "train" in lists and "val" in lists:
        lists.pop("trainval", None)
    elif "trainval" in lists:
        held = set(lists.get("val", ()))
        lists["train"] = [name for name in lists.pop("trainval") if name not in held]
    if "test" in lists and not any((root / "Annotations" / f"{name}.xml").is_file() for name in lists["test"]):
        lists.pop("test")  # VOC 2012 lists its test images without annotations
    readers = {split: lambda problems, names=names: read_voc(root, names, problems) for split, names in lists.items()}
    return Layout("voc", readers)


def _split_off(pictures: Pictures, fraction: float, seed: int, what: str) -> tuple[Pictures, Pictures]:
    order = torch.randperm(len(pictures), generator=torch_generator(seed, what)).tolist()
    count = min(len(pictures) - 1, max(1, round(fraction * len(pictures))))
    return pictures.subset(sorted(order[count:])), pictures.subset(sorted(order[:count]))


def _unseen(training: list[Picture], splits: dict[str, list[Picture]], problems: Problems) -> list[Picture]:
    """Training images that no held-out split has too: a measure on images that were trained on means nothing."""
    held = {picture.path: name for name in ("test", "val") for picture in splits.get(name, ())}
    for picture in training:
        if picture.path in held:
            text = f"listed for training and for {held[picture.path]}; left out of training"
            problems.add("image in two splits", picture.path.name, text)
    return [picture for picture in training if picture.path not in held]


def _stop_at(problems: Problems) -> None:
    shown = "; ".join(problems.lines[:5])
    more = f"; and {len(problems.lines) - 5} more" if len(problems.lines) > 5 else ""
    raise UserError(f"{problems.summary()}: {shown}{more}. Mend them, or leave them out with --problems skip")


def load_detection(config: DetectConfig) -> DetectionDataset:
    """The data set of ``config.data``, every box checked.

    Classes are those of the training annotations. A missing validation split is held out of training, from the seed.

    Raises:
        UserError: no such folder, neither form, no training image or box, or, with ``problems`` stop, anything that
            the sanity pass found.
    """
    root = Path(config.data)
    layout, problems = find_layout(root), Problems()
    notices = list(layout.notices)
    raw = {split: reader(problems) for split, reader in layout.readers.items()}
    training = raw.pop("all", None) or raw.get("train")
    if not training:
        found = " ".join(problems.lines[:3]) or f"its splits are {', '.join(raw) or 'none'}"
        raise UserError(f"{root}: no training images. {found}")
    raw["train"] = training = _unseen(training, raw, problems)
    classes = class_names(training)
    splits = {split: checked(pictures, classes, problems) for split, pictures in raw.items()}
    if problems.lines and config.problems == "stop":
        _stop_at(problems)
    train = splits["train"]
    if not train.counts():
        raise UserError(f"{root}: not one good box in {len(training)} training images. {' '.join(problems.lines[:3])}")
    if config.limit_train is not None and config.limit_train < len(train):
        order = torch.randperm(len(train), generator=torch_generator(config.seed, "subset")).tolist()
        train = train.subset(sorted(order[: config.limit_train]))
    val = splits.get("val")
    if val is None and config.val_fraction > 0 and len(train) > 1:
        whole = len(train)
        train, val = _split_off(train, config.val_fraction, config.seed, "split")
        notices.append(f"no val split: {len(val)} of {whole} training images are held out for it")
    if val is not None and not val.counts():
        val = None
        notices.append("the validation split holds no box; the last epoch is kept")
    test = splits.get("test")
    if test is not None and not test.counts():
        test = None
    if test is None:
        notices.append("no test split with boxes: the figures are of validation, on which the best epoch was chosen")
    if problems.lines:
        notices.append(f"{problems.summary()}; problems.txt in the run's folder lists them")
    return DetectionDataset(root.resolve().name, layout.form, classes, train, val, test, notices, problems)


def check_same_data(dataset: DetectionDataset, config: DetectConfig, card: Card) -> None:
    """Raise UserError when classes or training images are not those of the checkpoint whose card is given."""
    count = len(dataset.train or ())
    if dataset.classes != card.classes or count != card.train_images:
        raise UserError(
            f"{config.data} has changed since the run began: {count} training images of {len(dataset.classes)} "
            f"classes now, {card.train_images} of {len(card.classes)} then"
        )


def load_detection_split(data: str, split: str, classes: tuple[str, ...], config: DetectConfig) -> DetectionDataset:
    """One split of a folder for evaluation, in a detector's own classes; a single annotation file is taken whole.

    Raises UserError when there is no such split, or a class that the detector does not know.
    """
    layout, problems = find_layout(Path(data)), Problems()
    if "all" in layout.readers:
        pictures = layout.readers["all"](problems)
    elif split not in layout.readers:
        raise UserError(f"{data} has no {split} split; it has {', '.join(sorted(layout.readers))}")
    else:
        pictures = layout.readers[split](problems)
    unknown = sorted(set(class_names(pictures)) - set(classes))
    if unknown:
        raise UserError(
            f"{data} has classes that the detector does not know: {', '.join(unknown[:5])}; "
            f"it knows {', '.join(classes)}"
        )
    found = checked(pictures, classes, problems)
    if problems.lines and config.problems == "stop":
        _stop_at(problems)
    if not found.counts():
        raise UserError(f"{data}: the {split} split holds no box to measure against. {' '.join(problems.lines[:3])}")
    parts = {"train": None, "val": None, "test": None, split: found}
    return DetectionDataset(Path(data).resolve().name, layout.form, classes, **parts, problems=problems)
