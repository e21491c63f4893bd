"""One split of a data set as a trained model reads it: its preprocessing, its classes by name."""

from dataclasses import dataclass
from pathlib import Path

import torch

from .datasets import Dataset, FileSamples, Samples, decode, fits_in_memory, load_dataset
from .folders import scan_folder
from .preprocess import Preprocess
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


def _whole_folder(path: Path, preprocess: Preprocess, notices: list[str]) -> tuple[Samples, list[str]] | None:
    """A folder without splits, whole; None when it has splits."""
    listing = scan_folder(path, single_class_allowed=True)
    if "all" not in listing.splits:
        return None
    notices += [*listing.notices, f"{path} has no splits: all of it is evaluated"]
    pairs = listing.splits["all"]
    samples: Samples = FileSamples(tuple(p for p, _ in pairs), torch.tensor([label for _, label in pairs]))
    if fits_in_memory(len(samples), preprocess.image_size, preprocess.in_chans):
        assert isinstance(samples, FileSamples)
        samples, _ = decode(samples, preprocess, skip_bad=False)
    return samples, listing.classes


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
    whole: bool = True,
) -> tuple[Samples, list[str]]:
    """Samples of one split, labels in the order of ``classes``, and notices.

    ``seed`` and the fractions reproduce what training held out. A folder without splits is evaluated whole,
    unless ``whole=False`` (it is the folder that the model was trained on).

    Raises:
        ValueError: no such data or split, or classes that the model does not know.
        ImageError: an unreadable image.
    """
    notices: list[str] = []
    if data not in SOURCES and Path(data).is_dir() and whole:
        found = _whole_folder(Path(data), preprocess, notices)
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
    )
    dataset: Dataset = load_dataset(request, preprocess=preprocess)  # type: ignore[arg-type]
    chosen = getattr(dataset, split)
    if chosen is None or not len(chosen):
        there = [name for name in ("train", "val", "test") if getattr(dataset, name)]
        raise ValueError(f"{data} has no {split} split; it has {', '.join(there)}")
    return _by_name(chosen, dataset.classes, classes, data), notices
