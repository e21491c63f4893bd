"""One split of a data set as a trained model reads it: its preprocessing, its classes by name."""

from dataclasses import dataclass
from pathlib import Path

import torch

from .datasets import Dataset, FileSamples, Samples, decode, fits_in_memory, load_dataset
from .folders import scan_folder, split_folders
from .preprocess import Preprocess
from .shards import find_shards
from .sources import SOURCES


@dataclass(frozen=True)
class _Request:
    """What `load_dataset` reads of a configuration, for an evaluation."""

    data: str
    data_dir: Path | None
    image_size: int
    resize: str
    in_chans: int
    seed: int
    val_fraction: float
    test_fraction: float
    label_noise: float = 0.0
    limit_train: int | None = None
    skip_bad_images: bool = True  # as in training, whose held-out splits are reproduced; given splits never skip


def _by_name(samples: Samples, theirs: list[str], classes: list[str], data: str) -> Samples:
    """Labels in the model's order. Raises ValueError for classes that the model does not know."""
    present = [theirs[i] for i in samples.labels.unique().tolist()]
    unknown = [name for name in present if name not in classes]
    if unknown:
        more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} more"
        raise ValueError(
            f"{data} has classes that the model does not know: {', '.join(unknown[:5])}{more}; "
            f"it knows {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"
        )
    index = torch.tensor([classes.index(name) if name in classes else -1 for name in theirs])
    return samples.relabelled(index[samples.labels])


def _in_memory(samples: FileSamples, preprocess: Preprocess) -> Samples:
    if not fits_in_memory(len(samples), preprocess.image_size, preprocess.in_chans):
        return samples
    return decode(samples, preprocess, skip_bad=False)[0]


def _given_folder(
    path: Path, split: str, preprocess: Preprocess, whole: bool, notices: list[str]
) -> tuple[Samples, list[str]] | None:
    """A split that lies in a folder of its own, or (``whole``) all of a folder without splits; None without either.

    Its classes are its own, so that none is lost because training folders beside it lack it.
    """
    folders = split_folders(path)
    if split == "train" and folders and "val" not in folders:
        return None  # training images without those that were held out
    if (folders and split not in folders) or (not folders and not whole):
        return None
    listing = scan_folder(path, single_class_allowed=True, classes_of=split if folders else "train")
    if not folders:
        notices.append(f"{path} has no splits: all of it is evaluated")
    notices += [notice for notice in listing.notices if folders == {} or f"the {split} split" in notice]
    pairs = listing.splits[split if folders else "all"]
    samples = FileSamples(tuple(p for p, _ in pairs), torch.tensor([label for _, label in pairs], dtype=torch.int64))
    return _in_memory(samples, preprocess), listing.classes


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
) -> tuple[Samples, list[str]]:
    """Samples of one split, labels in the order of ``classes``, and notices.

    ``seed``, the fractions and ``limit_train`` reproduce what training held out. A folder without splits is evaluated
    whole, unless ``whole=False`` (it is the folder that the model was trained on); ``train_images`` is then what
    training found.

    Raises:
        ValueError: no such data or split, classes that the model does not know, or a folder that has changed since
            training, whose held-out images are no longer known.
        ImageError: an unreadable image.
    """
    notices: list[str] = []
    if data not in SOURCES and Path(data).is_dir() and not find_shards(Path(data)):
        found = _given_folder(Path(data), split, preprocess, whole, notices)
        if found is not None:
            samples, theirs = found
            return _by_name(samples, theirs, classes, data), notices
    request = _Request(
        data,
        data_dir,
        preprocess.image_size,
        preprocess.resize,
        preprocess.in_chans,
        seed,
        val_fraction,
        test_fraction,
        limit_train=limit_train,
    )
    dataset: Dataset = load_dataset(request, preprocess=preprocess)  # type: ignore[arg-type]
    if train_images is not None and not whole and len(dataset.train or ()) != train_images:
        raise ValueError(
            f"{data} has changed since training: {train_images} training images then, {len(dataset.train or ())} now, "
            "so that it is not known which images were held out; give a folder of other images"
        )
    chosen = getattr(dataset, split)
    if chosen is None or not len(chosen):
        there = [name for name in ("train", "val", "test") if getattr(dataset, name)]
        raise ValueError(f"{data} has no {split} split; it has {', '.join(there)}")
    notices += dataset.notices
    return _by_name(chosen, dataset.classes, classes, data), notices
