"""A detection data set from a folder: its splits, its classes, its problems."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..boxes.annotations import Picture, Pictures, Problems, checked, class_names
from ..boxes.layouts import find_layout
from ..checkpoints.card import Card
from ..data.digest import difference, digest_of
from ..data.placement import Placed
from ..data.randomness import torch_generator
from ..errors import UserError
from .config import DetectConfig
from .splits import hold_out, place_pictures


@dataclass(frozen=True, kw_only=True)
class DetectionDataset:
    """``form`` is voc, coco, csv or yolo; ``problems`` is what the sanity pass found in all splits.

    ``placed``: the split of each image by its content, None if it is not known.
    """

    name: str
    form: str
    classes: tuple[str, ...]
    train: Pictures | None
    val: Pictures | None
    test: Pictures | None
    notices: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    digest: dict[str, str] = field(default_factory=dict)
    placed: Placed | None = None


def _split_off(pictures: Pictures, fraction: float, seed: int, what: str) -> tuple[Pictures, Pictures]:
    """(kept, held), drawn at random as in every run before ``test_fraction`` existed."""
    order = torch.randperm(len(pictures), generator=torch_generator(seed, what)).tolist()
    count = min(len(pictures) - 1, max(1, round(fraction * len(pictures))))
    return pictures.subset(sorted(order[count:])), pictures.subset(sorted(order[:count]))


def _limited(train: Pictures, config: DetectConfig) -> Pictures:
    if config.limit_train is None or config.limit_train >= len(train):
        return train
    order = torch.randperm(len(train), generator=torch_generator(config.seed, "subset")).tolist()
    return train.subset(sorted(order[: config.limit_train]))


def _by_content(
    splits: dict[str, Pictures], config: DetectConfig, notices: list[str], placed: Placed | None
) -> tuple[tuple[Pictures, Pictures | None, Pictures | None], Placed | None]:
    """Training, validation and test images, those that are missing held out of training, and where each one went."""
    fractions = {"test": config.test_fraction} if "val" not in splits and "test" not in splits else {}
    if "val" not in splits:
        fractions["val"] = config.val_fraction
    fractions = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    whole = splits["train"]
    if fractions and len(whole) > 1:
        found = place_pictures(whole, fractions, config.seed, placed)
        held = {split: pictures for split, pictures in found.splits.items() if len(pictures)}
        for split in fractions:
            count = len(held.get(split, ()))
            notices.append(f"no {split} split: {count} of {len(whole)} images are held out for it, by their content")
        notices.extend(found.notices)
        splits, placed = {**splits, **held}, found.placed
    return (_limited(splits["train"], config), splits.get("val"), splits.get("test")), placed


def _divided(
    splits: dict[str, Pictures], config: DetectConfig, notices: list[str]
) -> tuple[Pictures, Pictures | None, Pictures | None]:
    """Training, validation and test images by the older rule. Missing splits are held out of training, with a notice.

    A test split is held out only if the data has neither a test nor a validation split; `hold_out` then draws both.
    Data with one of the two keeps the splits it had before ``test_fraction`` existed, and so do runs from that time.
    """
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    stratified = False
    if val is None and test is None and config.test_fraction > 0:
        kept, held = hold_out(train, config.test_fraction, config.seed, "test")
        if len(held):
            notices.append(f"no test split: {len(held)} of {len(train)} images are held out for it")
            train, test, stratified = kept, held, True
    train = _limited(train, config)
    if val is None and config.val_fraction > 0 and len(train) > 1:
        whole = len(train)
        if stratified:
            train, val = hold_out(train, config.val_fraction, config.seed, "val")
        else:
            train, val = _split_off(train, config.val_fraction, config.seed, "split")
        notices.append(f"no validation split: {len(val)} of {whole} training images are held out for it")
    return train, val, test


def _unseen(training: list[Picture], splits: dict[str, list[Picture]], problems: Problems) -> list[Picture]:
    """Training images that are in no held-out split: a measure on training images would mean nothing."""
    held = {picture.path: name for name in ("test", "val") for picture in splits.get(name, ())}
    for picture in training:
        if picture.path in held:
            text = f"listed in train and in {held[picture.path]}"
            problems.add("image in two splits", picture.path.name, text, "removed from train")
    return [picture for picture in training if picture.path not in held]


def _measurable(
    val: Pictures | None, test: Pictures | None, notices: list[str]
) -> tuple[Pictures | None, Pictures | None]:
    """The held-out splits; None in place of one without boxes."""
    if val is not None and not val.counts():
        val = None
        notices.append("the validation split has no boxes; the last epoch is kept")
    if test is None or not test.counts():
        test = None
        notices.append("no test split with boxes: results are on validation, where the best epoch was chosen")
    return val, test


def _stop_at(problems: Problems, root: Path) -> None:
    shown = "; ".join(problems.found[:5])
    more = f"; and {len(problems.found) - 5} more" if len(problems.found) > 5 else ""
    them = "it" if len(problems.found) == 1 else "them"
    raise UserError(
        f"{root}: {problems.summary()}: {shown}{more}. Mend {them}, or go on without {them}: --problems skip"
    )


def load_detection(config: DetectConfig, placed: Placed | None = None) -> DetectionDataset:
    """The data set of ``config.data``, with every box checked.

    The classes are those of the training annotations. ``placed``: images of an earlier run, which keep their splits
    where the splits are made here.

    Raises:
        UserError: no such folder, no known format, no training image or box, or, with ``problems`` stop, any finding
            of the sanity pass.
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
        _stop_at(problems, root)
    if not splits["train"].counts():
        raise UserError(f"{root}: no valid box in {len(training)} training images. {' '.join(problems.lines[:3])}")
    if config.split_rule == "content":
        (train, val, test), placed = _by_content(splits, config, notices, placed)
    else:
        (train, val, test), placed = _divided(splits, config, notices), None
    val, test = _measurable(val, test, notices)
    if problems.lines:
        notices.append(f"{problems.summary()}; problems.txt in the run folder lists them")
    return DetectionDataset(
        name=root.resolve().name,
        form=layout.form,
        classes=classes,
        train=train,
        val=val,
        test=test,
        notices=notices,
        problems=problems,
        digest=_digest(raw),
        placed=placed,
    )


def _digest(raw: dict[str, list[Picture]]) -> dict[str, str]:
    """Digests of all images and boxes; with a missing image, of names and boxes alone."""
    rows = [(split, picture.path, "") for split, pictures in raw.items() for picture in pictures]
    boxes = (f"{picture.path.name} {picture.boxes}" for pictures in raw.values() for picture in pictures)
    return digest_of(rows, boxes=sorted(boxes))


def check_same_data(dataset: DetectionDataset, config: DetectConfig, card: Card, *, may_grow: bool = False) -> None:
    """Raise UserError when the classes or training images differ from those in the checkpoint's card.

    ``may_grow``: images may have been added, because the splits of the others are known.
    """
    count = len(dataset.train or ())
    before = count if card.train_images is None else card.train_images
    if dataset.classes != card.classes or (count != before and not may_grow):
        raise UserError(
            f"{config.data} has changed since the run began: {count} training images in {len(dataset.classes)} "
            f"classes now, {before} in {len(card.classes)} then"
        )
    if changed := difference(card.data_digest, dataset.digest):
        raise UserError(
            f"{config.data} has changed since the run began: {changed} differ; restore them, or start a new run with "
            f"`ran detect train {config.data} --init RUN`"
        )


def load_detection_split(data: str, split: str, classes: tuple[str, ...], config: DetectConfig) -> DetectionDataset:
    """One split of a folder for evaluation, with a detector's classes; a single annotation file is used whole.

    Raises UserError when there is no such split, or when the detector does not know a class.
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
        _stop_at(problems, Path(data))
    if not found.counts():
        raise UserError(f"{data}: the {split} split has no boxes to measure against. {' '.join(problems.lines[:3])}")
    parts = {"train": None, "val": None, "test": None, split: found}
    name = Path(data).resolve().name
    return DetectionDataset(name=name, form=layout.form, classes=classes, **parts, problems=problems)
