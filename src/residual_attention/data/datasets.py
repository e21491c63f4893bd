"""Data sets as the training core takes them: splits of samples, class names, preprocessing, notices."""

import difflib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from .folders import FolderListing, scan_folder
from .images import ImageError, is_grayscale, read_image
from .preprocess import Preprocess
from .shards import ShardSamples, find_shards, read_shards
from .splits import add_label_noise, class_balanced_subset, stratified_split

if TYPE_CHECKING:
    from ..training.config import TrainConfig

IN_MEMORY_PX = 64  # images up to this side live in memory as one tensor,
IN_MEMORY_BYTES = 2 * 2**30  # if they take no more than this
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOOKED_AT = 200  # images whose headers tell the size and the channels of a folder's
MEASURED = 5_000  # training images that mean and standard deviation are measured on
DECODERS = 4
CHECKED = 20_000  # held-out files that are decoded once before training, so that a bad one is found then


@dataclass(frozen=True)
class TensorSamples:
    """Decoded images in memory: ``images`` (N, C, S, S) uint8, ``labels`` (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "TensorSamples":
        return TensorSamples(self.images[index], self.labels[index])

    def relabelled(self, labels: Tensor) -> "TensorSamples":
        return TensorSamples(self.images, labels)


@dataclass(frozen=True)
class FileSamples:
    """Images to be decoded when they are needed; ``labels`` (N,) int64."""

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, in_chans: int) -> Image.Image:
        """Raises ImageError when the file cannot be read."""
        return read_image(self.paths[index], in_chans)

    def subset(self, index: Tensor) -> "FileSamples":
        return FileSamples(tuple(self.paths[i] for i in index.tolist()), self.labels[index])

    def relabelled(self, labels: Tensor) -> "FileSamples":
        return FileSamples(self.paths, labels)


StoredSamples = FileSamples | ShardSamples
Samples = TensorSamples | FileSamples | ShardSamples


@dataclass(frozen=True)
class Dataset:
    """``flip``: whether mirrored images keep their class; ``skipped``: unreadable training images left out."""

    name: str
    classes: list[str]
    train: Samples | None
    val: Samples | None
    test: Samples | None
    preprocess: Preprocess
    flip: bool = True
    notices: list[str] = field(default_factory=list)
    skipped: int = 0


def _decoded(samples: StoredSamples, preprocess: Preprocess) -> Iterator[Tensor | ImageError]:
    """Each file as (C, S, S) uint8, or why it cannot be read."""

    def one(index: int) -> Tensor | ImageError:
        try:
            return preprocess.to_uint8(samples.read(index, preprocess.in_chans))
        except ImageError as error:
            return error

    with ThreadPoolExecutor(DECODERS) as pool:
        yield from pool.map(one, range(len(samples)))


def decode(samples: StoredSamples, preprocess: Preprocess, *, skip_bad: bool) -> tuple[TensorSamples, list[str]]:
    """All images in memory, and the messages of those that were skipped.

    Raises ImageError for an unreadable one unless ``skip_bad``.
    """
    side, chans = preprocess.image_size, preprocess.in_chans
    images = torch.empty(len(samples), chans, side, side, dtype=torch.uint8)
    good: list[int] = []
    errors: list[str] = []
    for i, result in enumerate(_decoded(samples, preprocess)):
        if isinstance(result, Tensor):
            images[i] = result
            good.append(i)
        elif skip_bad:
            errors.append(str(result))
        else:
            raise result
    if errors:
        return TensorSamples(images[good], samples.labels[good]), errors
    return TensorSamples(images, samples.labels), errors


def check_files(samples: Samples | None, preprocess: Preprocess, *, skip_bad: bool) -> tuple[Samples | None, list[str]]:
    """Decode held-out files once before training, so that a run does not end at a bad one after hours.

    Returns those that can be read, and the messages of the others. Raises ImageError unless ``skip_bad``.
    """
    if samples is None or isinstance(samples, TensorSamples) or len(samples) > CHECKED:
        return samples, []
    good: list[int] = []
    errors: list[str] = []
    for i, result in enumerate(_decoded(samples, preprocess)):
        if isinstance(result, Tensor):
            good.append(i)
        elif skip_bad:
            errors.append(str(result))
        else:
            raise result
    return (samples.subset(torch.tensor(good, dtype=torch.int64)) if errors else samples), errors


def _left_out(errors: list[str]) -> str:
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return f"left out {len(errors)} unreadable training images: {'; '.join(errors[:3])}{more}"


def measure(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images (N, C, S, S), as shares of 255, four digits."""
    step = max(1, len(images) // MEASURED)
    values = images[::step].double().transpose(0, 1).flatten(1) / 255
    mean = tuple(round(v, 4) for v in values.mean(1).tolist())
    std = tuple(max(round(v, 4), 1e-3) for v in values.std(1, correction=0).tolist())
    return mean, std


def _looked_at(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]


def _longest_side(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return max(image.size)
    except Exception:
        return 0


def _folder_image_size(paths: tuple[Path, ...], notices: list[str]) -> int:
    """224 px, or 32 or 64 where every image looked at is small."""
    longest = max((_longest_side(path) for path in _looked_at(paths)), default=0)
    if not 0 < longest <= IN_MEMORY_PX:
        return 224
    size = 32 if longest <= 40 else 64
    notices.append(f"images are at most {longest} px: the network reads {size} px (--image-size overrides)")
    return size


def _channels(paths: tuple[Path, ...]) -> int:
    found = {is_grayscale(path) for path in _looked_at(paths)}
    return 1 if found - {None} == {True} else 3


def _file_samples(pairs: list[tuple[Path, int]]) -> FileSamples:
    return FileSamples(tuple(path for path, _ in pairs), torch.tensor([label for _, label in pairs], dtype=torch.int64))


def fits_in_memory(count: int, side: int, chans: int) -> bool:
    return side <= IN_MEMORY_PX and count * chans * side * side <= IN_MEMORY_BYTES


def hold_out(
    train: Samples, fraction: float, seed: int, name: str, notices: list[str]
) -> tuple[Samples, Samples | None]:
    """Split off a stratified share and say so; none for a fraction of 0 or when no class can spare one."""
    kept, held = stratified_split(train.labels, fraction, seed)
    if not len(held):
        return train, None
    notices.append(f"no {name} split: {len(held)} of {len(train)} training images are held out for it")
    return train.subset(kept), train.subset(held)


def split_as_configured(
    train: Samples,
    val: Samples | None,
    test: Samples | None,
    config: "TrainConfig",
    num_classes: int,
    notices: list[str],
) -> tuple[Samples, Samples | None, Samples | None]:
    """Validation from training when there is none; then the training split's own subset and label noise."""
    if val is None:
        train, val = hold_out(train, config.val_fraction, config.seed, "validation", notices)
    if config.limit_train is not None and config.limit_train < len(train):
        notices.append(f"training on {config.limit_train} of {len(train)} images, balanced over the classes")
        train = train.subset(class_balanced_subset(train.labels, config.limit_train, config.seed))
    if config.label_noise:
        count = round(config.label_noise * len(train))
        notices.append(f"{count} of {len(train)} training labels were replaced by another class")
        train = train.relabelled(add_label_noise(train.labels, config.label_noise, num_classes, config.seed))
    return train, val, test


def _decoded_splits(
    splits: dict[str, FileSamples], preprocess: Preprocess, config: "TrainConfig", notices: list[str]
) -> tuple[dict[str, Samples], int]:
    """The splits in memory; unreadable training images are left out and told of."""
    found: dict[str, Samples] = {}
    skipped = 0
    for name, samples in splits.items():
        decoded, errors = decode(samples, preprocess, skip_bad=config.skip_bad_images and name in ("train", "all"))
        skipped += len(errors)
        if errors:
            notices.append(_left_out(errors))
        found[name] = decoded
    return found, skipped


def _divided(
    splits: dict[str, Samples], preprocess: Preprocess, config: "TrainConfig", num_classes: int, notices: list[str]
) -> tuple[tuple[Samples, Samples | None, Samples | None], int]:
    """Train, val and test, what is missing held out of training; held-out files are checked."""
    train, val, test = splits.get("train"), splits.get("val"), splits.get("test")
    given = {"val": val is not None, "test": test is not None}
    if train is None:
        train, test = hold_out(splits["all"], config.test_fraction, config.seed, "test", notices)
    elif test is None:
        notices.append("no test split: nothing is reported on unseen test images")
    train, val, test = split_as_configured(train, val, test, config, num_classes, notices)
    val, bad_val = check_files(val, preprocess, skip_bad=config.skip_bad_images and not given["val"])
    test, bad_test = check_files(test, preprocess, skip_bad=config.skip_bad_images and not given["test"])
    bad = bad_val + bad_test
    if bad:
        notices.append(_left_out(bad))
    return (train, val, test), len(bad)


def from_listing(
    name: str,
    listing: FolderListing,
    config: "TrainConfig",
    *,
    image_size: int | None = None,
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    crop_pct: float = 1.0,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """A data set from a scanned folder.

    ``constants`` are its known mean and standard deviation, ``preprocess`` a trained model's own.
    """
    notices = list(listing.notices)
    files = {split: _file_samples(pairs) for split, pairs in listing.splits.items() if pairs}
    main = files["train"] if "train" in files else files["all"]
    measured = constants is None and preprocess is None
    if preprocess is None:
        size = config.image_size or image_size or _folder_image_size(main.paths, notices)
        chans = config.in_chans or (3 if constants else _channels(main.paths))
        mean, std = constants or (IMAGENET_MEAN, IMAGENET_STD)
        preprocess = Preprocess(size, config.resize, in_channels(mean, chans), in_channels(std, chans), crop_pct)
    splits: dict[str, Samples] = dict(files)
    skipped = 0
    if fits_in_memory(sum(map(len, files.values())), preprocess.image_size, preprocess.in_chans):
        splits, skipped = _decoded_splits(files, preprocess, config, notices)
        if measured:
            training = splits.get("train", splits.get("all"))
            assert isinstance(training, TensorSamples)
            mean, std = measure(training.images)
            preprocess = replace(preprocess, mean=mean, std=std)
    divided, bad = _divided(splits, preprocess, config, len(listing.classes), notices)
    return Dataset(name, listing.classes, *divided, preprocess, True, notices, skipped + bad)


def in_channels(values: tuple[float, ...], chans: int) -> tuple[float, ...]:
    """Constants of three channels for as many as the images have: their mean for one."""
    return values if chans == len(values) else (round(sum(values) / len(values), 4),) * chans


def load_dataset(config: "TrainConfig", preprocess: Preprocess | None = None) -> Dataset:
    """The data of a run: a named set or a folder, split, with its preprocessing (``preprocess`` if given).

    Raises:
        ValueError: unknown name, missing or unusable folder; one line.
        ImageError: an unreadable validation or test image.
    """
    from .sources import SOURCES

    if config.data in SOURCES:
        return SOURCES[config.data](config, preprocess)
    path = Path(config.data)
    if not path.exists():
        close = difflib.get_close_matches(config.data, list(SOURCES), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"no data set or folder named {config.data!r}{hint}; there are {', '.join(SOURCES)}, or give a folder"
        )
    if find_shards(path):
        return _from_shards(path, config, preprocess)
    return from_listing(path.resolve().name, scan_folder(path), config, preprocess=preprocess)


def _from_shards(root: Path, config: "TrainConfig", preprocess: Preprocess | None) -> Dataset:
    """A folder of WebDataset shards; they are for large images, which stay where they are until needed."""
    notices: list[str] = []
    classes, shards = read_shards(root, notices)
    if preprocess is None:
        chans = config.in_chans or 3
        mean, std = in_channels(IMAGENET_MEAN, chans), in_channels(IMAGENET_STD, chans)
        preprocess = Preprocess(config.image_size or 224, config.resize, mean, std)
    splits: dict[str, Samples] = dict(shards)
    divided, bad = _divided(splits, preprocess, config, len(classes), notices)
    return Dataset(root.resolve().name, classes, *divided, preprocess, True, notices, bad)
