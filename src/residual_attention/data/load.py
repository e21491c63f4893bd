"""The data of a run, and one split of a data set as a trained model reads it."""

from pathlib import Path

import torch

from ..errors import DataNotFoundError, UserError
from ..hints import did_you_mean
from ..plugins import FLAG
from .datasets import Dataset, from_listing, from_shards
from .folders import scan_folder, split_folders
from .preprocess import Preprocess
from .request import DataRequest
from .samples import FileSamples, Samples, decode, fits_in_memory
from .shards import find_shards
from .sources import SOURCES


def load_dataset(request: DataRequest, preprocess: Preprocess | None = None) -> Dataset:
    """The data of a run: a named set or a folder, split, with its preprocessing (``preprocess`` if given).

    Raises:
        UserError: unknown name, missing or unusable folder; one line.
        ImageError: an unreadable validation or test image.
    """
    if request.data in SOURCES:
        return SOURCES.value(request.data)(request, preprocess)
    path = Path(request.data)
    if not path.exists():
        raise DataNotFoundError(
            f"no data set or folder named {request.data!r}{did_you_mean(request.data, SOURCES)}; "
            f"there are {', '.join(SOURCES)}, or give a folder; a plugin's needs {FLAG}"
        )
    if find_shards(path):
        return from_shards(path, request, preprocess)
    return from_listing(path.resolve().name, scan_folder(path), request, preprocess=preprocess)


def _in_model_order(samples: Samples, theirs: list[str], classes: list[str], data: str) -> Samples:
    """Labels in the model's order. Raises UserError for classes that the model does not know."""
    present = [theirs[i] for i in samples.labels.unique().tolist()]
    unknown = [name for name in present if name not in classes]
    if unknown:
        more = "" if len(unknown) <= 5 else f" and {len(unknown) - 5} more"
        raise UserError(
            f"{data} has classes that the model does not know: {', '.join(unknown[:5])}{more}; "
            f"it knows {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"
        )
    index = torch.tensor([classes.index(name) if name in classes else -1 for name in theirs])
    return samples.relabelled(index[samples.labels])


def _in_memory(samples: FileSamples, preprocess: Preprocess) -> Samples:
    if not fits_in_memory(len(samples), preprocess.image_size, preprocess.in_chans):
        return samples
    return decode(samples, preprocess, skip_bad=False)[0]


def _folder_split(
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
        UserError: no such data or split, classes that the model does not know, or a folder that has changed since
            training, whose held-out images are no longer known.
        ImageError: an unreadable image.
    """
    notices: list[str] = []
    if data not in SOURCES and Path(data).is_dir() and not find_shards(Path(data)):
        found = _folder_split(Path(data), split, preprocess, whole, notices)
        if found is not None:
            samples, theirs = found
            return _in_model_order(samples, theirs, classes, data), notices
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
    )
    dataset = load_dataset(request, preprocess=preprocess)
    if train_images is not None and not whole and len(dataset.train or ()) != train_images:
        raise UserError(
            f"{data} has changed since training: {train_images} training images then, {len(dataset.train or ())} now, "
            "so that it is not known which images were held out; give a folder of other images"
        )
    chosen = getattr(dataset, split)
    if chosen is None or not len(chosen):
        there = [name for name in ("train", "val", "test") if getattr(dataset, name)]
        raise UserError(f"{data} has no {split} split; it has {', '.join(there)}")
    notices += dataset.notices
    return _in_model_order(chosen, dataset.classes, classes, data), notices
