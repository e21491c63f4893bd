"""A detection data set from a folder: its splits, its classes, what is wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..checkpoints.card import Card
from ..data.randomness import torch_generator
from ..errors import UserError
from .annotations import Picture, Pictures, Problems, checked, class_names
from .config import DetectConfig
from .layouts import find_layout
from .splits import hold_out


@dataclass(frozen=True, kw_only=True)
class DetectionDataset:
    """``form`` is voc, coco, csv or yolo; ``problems`` what the sanity pass found in all splits."""

    name: str
    form: str
    classes: tuple[str, ...]
    train: Pictures | None
    val: Pictures | None
    test: Pictures | None
    notices: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


def _split_off(pictures: Pictures, fraction: float, seed: int, what: str) -> tuple[Pictures, Pictures]:
    """(kept, held) by chance, as every run before ``test_fraction`` had it."""
    order = torch.randperm(len(pictures), generator=torch_generator(seed, what)).tolist()
    count = min(len(pictures) - 1, max(1, round(fraction * len(pictures))))
    return pictures.subset(sorted(order[count:])), pictures.subset(sorted(order[:count]))


def _divided(
    splits: dict[str, Pictures], config: DetectConfig, notices: list[str]
) -> tuple[Pictures, Pictures | None, Pictures | None]:
    """Training, validation and test images. What is missing is held out of training, with a notice.

    A test split is held out only where the data have neither it nor a validation split; then both by `hold_out`. Data
    that have one of the two keep the splits that they had before there was a ``test_fraction``, and so do runs of then.
    """
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    stratified = False
    if val is None and test is None and config.test_fraction > 0:
        kept, held = hold_out(train, config.test_fraction, config.seed, "test")
        if len(held):
            notices.append(f"no test split: {len(held)} of {len(train)} images are held out for it")
            train, test, stratified = kept, held, True
    if config.limit_train is not None and config.limit_train < len(train):
        order = torch.randperm(len(train), generator=torch_generator(config.seed, "subset")).tolist()
        train = train.subset(sorted(order[: config.limit_train]))
    if val is None and config.val_fraction > 0 and len(train) > 1:
        whole = len(train)
        if stratified:
            train, val = hold_out(train, config.val_fraction, config.seed, "val")
        else:
            train, val = _split_off(train, config.val_fraction, config.seed, "split")
        notices.append(f"no val split: {len(val)} of {whole} training images are held out for it")
    return train, val, test


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

    Classes are those of the training annotations.

    Raises:
        UserError: no such folder, none of the forms, no training image or box, or, with ``problems`` stop, anything
            that the sanity pass found.
    """
    root = Path(config.data)
    layout, problems = find_layout(root), Problems()
    notices = list(layout.notices)
    raw = {split: reader(problems) for split, reader in layout.readers.items()}
    training = raw.pop("all", None) or raw.get("train")
    if not training:
        found = " ".join([*problems.lines[:3], *notices]) or f"its splits are {', '.join(raw) or 'none'}"
        raise UserError(f"{root}: no training images. {found}")
    raw["train"] = training = _unseen(training, raw, problems)
    classes = class_names(training)
    splits = {split: checked(pictures, classes, problems) for split, pictures in raw.items()}
    if problems.lines and config.problems == "stop":
        _stop_at(problems)
    if not splits["train"].counts():
        raise UserError(f"{root}: not one good box in {len(training)} training images. {' '.join(problems.lines[:3])}")
    train, val, test = _divided(splits, config, notices)
    if val is not None and not val.counts():
        val = None
        notices.append("the validation split holds no box; the last epoch is kept")
    if test is not None and not test.counts():
        test = None
    if test is None:
        notices.append("no test split with boxes: the figures are of validation, on which the best epoch was chosen")
    if problems.lines:
        notices.append(f"{problems.summary()}; problems.txt in the run's folder lists them")
    return DetectionDataset(
        name=root.resolve().name,
        form=layout.form,
        classes=classes,
        train=train,
        val=val,
        test=test,
        notices=notices,
        problems=problems,
    )


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
    name = Path(data).resolve().name
    return DetectionDataset(name=name, form=layout.form, classes=classes, **parts, problems=problems)
