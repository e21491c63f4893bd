"""Loads the data of a run, or one split for a trained model."""

from pathlib import Path

import torch
import torch.nn.functional as F

from ..errors import DataNotFoundError, UserError
from ..hints import did_you_mean
from ..plugins import FLAG
from .arrange import NAMES, arranged
from .datasets import Dataset, file_samples, from_listing, from_shards
from .listing import given_splits, is_on_disk, list_images
from .placement import Placed
from .preprocess import Preprocess
from .request import DataRequest, SplitRule
from .samples import FileSamples, Samples, decode, fits_in_memory
from .shards import find_shards
from .sources import SOURCES
from .splits import HeldOutNotice
from .table import SUFFIXES


def found_on_disk(data: str) -> Path:
    """The folder or list of images that DATA names. Raises UserError if it names none."""
    path = Path(data)
    if not path.exists():
        raise DataNotFoundError(
            f"no data set or folder named {data!r}{did_you_mean(data, SOURCES)}; "
            f"data sets: {', '.join(SOURCES)}; or give a folder or a list of images; a plugin's data set needs {FLAG}"
        )
    if not is_on_disk(path):
        raise UserError(f"{path} is neither a folder nor a list of images ({', '.join(SUFFIXES)})")
    return path


def load_dataset(request: DataRequest, preprocess: Preprocess | None = None, placed: Placed | None = None) -> Dataset:
    """Load a named data set or a folder: its splits and its preprocessing (``preprocess`` if given).

    ``placed``: images of an earlier run, which keep their splits where the splits are made here.

    Raises:
        UserError: the name is unknown, or the folder is missing or unusable.
        ImageError: a validation or test image is unreadable.
    """
    if request.data in SOURCES:
        return SOURCES.value(request.data)(request, preprocess)
    path = found_on_disk(request.data)
    if find_shards(path):
        return from_shards(path, request, preprocess)
    listing = arranged(list_images(path), request, placed)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return from_listing(name, listing, request, preprocess=preprocess)


def _in_model_order(samples: Samples, theirs: list[str], classes: list[str], data: str, *, several: bool) -> Samples:
    """Relabel samples in the model's class order, as a matrix if the model gives ``several`` labels per image.

    Raises UserError for classes that the model does not have.
    """
    labels = samples.labels
    if labels.ndim == 2 and not several:
        raise UserError(f"{data} has several labels per image; the model gives one class per image")
    if several and labels.ndim == 1:
        labels = F.one_hot(labels, len(theirs)).to(torch.float32)
    present = [theirs[i] for i in (labels.sum(0).nonzero()[:, 0] if several else labels.unique()).tolist()]
    unknown = [name for name in present if name not in classes]
    if unknown:
        more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} more"
        raise UserError(
            f"{data} has classes that the model does not have: {', '.join(unknown[:5])}{more}; "
            f"its classes: {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"
        )
    index = torch.tensor([classes.index(name) if name in classes else -1 for name in theirs])
    if not several:
        return samples.relabelled(index[labels])
    ordered = torch.zeros(len(labels), len(classes))
    ordered[:, index[index >= 0]] = labels[:, index >= 0]
    return samples.relabelled(ordered)


def _in_memory(samples: Samples, preprocess: Preprocess) -> Samples:
    if not isinstance(samples, FileSamples) or not fits_in_memory(
        len(samples), preprocess.image_size, preprocess.in_chans
    ):
        return samples
    return decode(samples, preprocess, skip_bad=False)[0]


def _folder_split(
    path: Path, split: str, preprocess: Preprocess, whole: bool, notices: list[str], several: bool
) -> tuple[Samples, list[str]] | None:
    """Read a split folder, or (``whole``) all images of a folder without splits; None if neither applies.

    Classes come from this split alone, so none is dropped because the training folder lacks it.
    """
    given = given_splits(path)
    if split == "train" and given and "val" not in given:
        return None  # it still contains the held-out images
    if (given and split not in given) or (not given and not whole):
        return None
    classes_of = split if given else "train"
    listing = list_images(path, single_class_allowed=True, classes_of=classes_of, several=several)
    if not given:
        notices.append(f"{path} has no splits: all its images are evaluated")
    notices += [notice for notice in listing.notices if not given or f"the {split} split" in notice]
    pairs = listing.splits[split if given else "all"]
    samples = file_samples(pairs, len(listing.classes), several=listing.several)
    return samples, listing.classes


def _about(split: str, notices: list[str]) -> list[str]:
    """The notices without those on how another split was held out; all for the images that remain for training."""
    if split == "train":
        return notices
    return [each for each in notices if not isinstance(each, HeldOutNotice) or each.name == NAMES[split]]


def load_split(
    data: str,
    preprocess: Preprocess,
    classes: list[str],
    *,
    split: str = "test",
    data_dir: Path | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    limit_train: int | None = None,
    whole: bool = True,
    train_images: int | None = None,
    split_rule: SplitRule = "shuffle",
    placed: Placed | None = None,
    several: bool = False,
    folds: int | None = None,
    fold: int | None = None,
) -> tuple[Samples, list[str]]:
    """Load one split: its samples, with labels in the order of ``classes``, and notices.

    ``seed``, the fractions, ``limit_train``, ``split_rule``, ``placed`` and ``fold`` of ``folds`` reproduce the splits
    of the training run.
    All images of a folder without splits are used, unless ``whole=False`` (the model was trained on it);
    ``train_images`` is then the number of images it was trained on, which need not hold if ``placed`` is known.
    ``several``: the model gives several labels per image, so the labels become an (N, K) matrix.

    Raises:
        UserError: unknown data or split, classes that the model does not have, or a folder that has changed since
            training, so its held-out images cannot be reproduced.
        ImageError: an image is unreadable.
    """
    notices: list[str] = []
    if data not in SOURCES and is_on_disk(Path(data)) and not find_shards(Path(data)) and fold is None:
        found = _folder_split(Path(data), split, preprocess, whole, notices, several)
        if found is not None:
            samples, theirs = found
            ordered = _in_model_order(samples, theirs, classes, data, several=several)  # before any image is read
            return _in_memory(ordered, preprocess), notices
    request = DataRequest(
        data=data,
        data_dir=data_dir,
        image_size=preprocess.image_size,
        resize=preprocess.resize,
        in_chans=preprocess.in_chans,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        limit_train=limit_train,
        split_rule=split_rule,
        folds=folds,
        fold=fold,
    )
    dataset = load_dataset(request, preprocess, placed)
    if train_images is not None and not whole and placed is None and len(dataset.train or ()) != train_images:
        raise UserError(
            f"{data} has changed since training: {train_images} training images then, {len(dataset.train or ())} now, "
            "so the held-out images are unknown; give a folder of other images"
        )
    chosen = getattr(dataset, split)
    if chosen is None or not len(chosen):
        there = [name for name in ("train", "val", "test") if getattr(dataset, name)]
        raise UserError(f"{data} has no {split} split; it has {', '.join(there)}")
    notices += _about(split, dataset.notices)
    return _in_model_order(chosen, dataset.classes, classes, data, several=several), notices
