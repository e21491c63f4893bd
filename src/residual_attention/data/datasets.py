"""Data sets for the training core: splits, class names, preprocessing and notices."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..errors import UserError
from .digest import digest_of
from .folders import FolderListing, scan_folder
from .images import is_grayscale
from .preprocess import Preprocess
from .request import DataRequest
from .samples import IN_MEMORY_PX, FileSamples, Samples, TensorSamples, decode, decoded, fits_in_memory
from .shards import read_shards
from .splits import add_label_noise, class_balanced_subset, stratified_split

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_SAMPLED = 200  # image headers read to find a folder's image size and channels
MAX_MEASURED = 5_000  # training images used to measure mean and standard deviation
MAX_CHECKED = 20_000  # held-out files decoded before training to find bad ones; larger sets are not checked


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """``flip``: whether mirrored images keep their class; ``skipped``: number of unreadable images left out;
    ``digest``: of the files, by `digest_of`.
    """

    name: str
    classes: list[str]
    train: Samples | None
    val: Samples | None
    test: Samples | None
    preprocess: Preprocess
    flip: bool = True
    notices: list[str] = field(default_factory=list)
    skipped: int = 0
    digest: dict[str, str] = field(default_factory=dict)


def check_files(samples: Samples | None, preprocess: Preprocess, *, skip_bad: bool) -> tuple[Samples | None, list[str]]:
    """Decode held-out files once before training, so a bad file does not stop the run hours later.

    Returns the readable samples and the error messages of the others. Raises ImageError unless ``skip_bad``.
    """
    if samples is None or isinstance(samples, TensorSamples) or len(samples) > MAX_CHECKED:
        return samples, []
    good: list[int] = []
    errors: list[str] = []
    for i, result in enumerate(decoded(samples, preprocess)):
        if isinstance(result, Tensor):
            good.append(i)
        elif skip_bad:
            errors.append(str(result))
        else:
            raise result
    return (samples.subset(torch.tensor(good, dtype=torch.int64)) if errors else samples), errors


def _unreadable_notice(errors: list[str]) -> str:
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return f"left out {len(errors)} unreadable training images: {'; '.join(errors[:3])}{more}"


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of uint8 images (N, C, S, S), divided by 255, to four digits."""
    step = max(1, len(images) // MAX_MEASURED)
    values = images[::step].double().transpose(0, 1).flatten(1) / 255
    mean = tuple(round(v, 4) for v in values.mean(1).tolist())
    std = tuple(max(round(v, 4), 1e-3) for v in values.std(1, correction=0).tolist())
    return mean, std


def _sampled(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return paths[:: max(1, len(paths) // MAX_SAMPLED)][:MAX_SAMPLED]


def _longest_side(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return max(image.size)
    except Exception:
        return 0


def _folder_image_size(paths: tuple[Path, ...], notices: list[str]) -> int:
    """224 px; 32 or 64 px if every sampled image is small."""
    longest = max((_longest_side(path) for path in _sampled(paths)), default=0)
    if not 0 < longest <= IN_MEMORY_PX:
        return 224
    size = 32 if longest <= 40 else 64
    notices.append(f"images are at most {longest} px, so the input size is {size} px (--image-size overrides it)")
    return size


def suggested_image_size(folder: Path) -> int:
    """The side in pixels that `from_listing` would choose for a folder of class folders. Raises as `scan_folder`."""
    listing = scan_folder(folder)
    return _folder_image_size(tuple(path for pairs in listing.splits.values() for path, _ in pairs), [])


def _count_channels(paths: tuple[Path, ...]) -> int:
    found = {is_grayscale(path) for path in _sampled(paths)}
    return 1 if found - {None} == {True} else 3


def _file_samples(pairs: list[tuple[Path, int]]) -> FileSamples:
    return FileSamples(tuple(path for path, _ in pairs), torch.tensor([label for _, label in pairs], dtype=torch.int64))


def hold_out(
    train: Samples, fraction: float, seed: int, name: str, notices: list[str]
) -> tuple[Samples, Samples | None]:
    """Hold out a stratified share and add a notice; None if ``fraction`` is 0 or no class has a sample to spare."""
    kept, held = stratified_split(train.labels, fraction, seed)
    if not len(held):
        return train, None
    notices.append(f"no {name} split: {len(held)} of {len(train)} training images are held out for it")
    return train.subset(kept), train.subset(held)


def split_as_configured(
    train: Samples,
    val: Samples | None,
    test: Samples | None,
    request: DataRequest,
    num_classes: int,
    notices: list[str],
) -> tuple[Samples, Samples | None, Samples | None]:
    """Hold out validation images if there are none, then apply ``limit_train`` and label noise to training images."""
    if val is None:
        train, val = hold_out(train, request.val_fraction, request.seed, "validation", notices)
    if request.limit_train is not None and request.limit_train < len(train):
        notices.append(f"training on {request.limit_train} of {len(train)} images, balanced across classes")
        train = train.subset(class_balanced_subset(train.labels, request.limit_train, request.seed))
    if request.label_noise:
        count = round(request.label_noise * len(train))
        notices.append(f"{count} of {len(train)} training labels were replaced by another class")
        train = train.relabelled(add_label_noise(train.labels, request.label_noise, num_classes, request.seed))
    return train, val, test


def _decode_splits(
    splits: dict[str, FileSamples], preprocess: Preprocess, request: DataRequest, notices: list[str]
) -> tuple[dict[str, Samples], int]:
    """Decode the splits into memory; unreadable training images are left out and reported."""
    found: dict[str, Samples] = {}
    skipped = 0
    for name, samples in splits.items():
        decoded, errors = decode(samples, preprocess, skip_bad=request.skip_bad_images and name in ("train", "all"))
        skipped += len(errors)
        if errors:
            notices.append(_unreadable_notice(errors))
        found[name] = decoded
    return found, skipped


def _complete_splits(
    splits: dict[str, Samples], preprocess: Preprocess, request: DataRequest, num_classes: int, notices: list[str]
) -> tuple[tuple[Samples, Samples | None, Samples | None], int]:
    """Train, val and test, and the number of unreadable images left out.

    Missing validation images are held out of training, and so are test images if the data have no splits at all."""
    train, val, test = splits.get("train"), splits.get("val"), splits.get("test")
    given = {"val": val is not None, "test": test is not None}
    if train is None:
        train, test = hold_out(splits["all"], request.test_fraction, request.seed, "test", notices)
    elif test is None:
        notices.append("no test split, so no test results are reported")
    train, val, test = split_as_configured(train, val, test, request, num_classes, notices)
    val, bad_val = check_files(val, preprocess, skip_bad=request.skip_bad_images and not given["val"])
    test, bad_test = check_files(test, preprocess, skip_bad=request.skip_bad_images and not given["test"])
    bad = bad_val + bad_test
    if bad:
        notices.append(_unreadable_notice(bad))
    return (train, val, test), len(bad)


def from_listing(
    name: str,
    listing: FolderListing,
    request: DataRequest,
    *,
    image_size: int | None = None,
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    crop_pct: float = 1.0,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """A data set from a scanned folder.

    ``constants``: its mean and standard deviation, if known. ``preprocess``: that of a trained model.
    """
    notices = list(listing.notices)
    files = {split: _file_samples(pairs) for split, pairs in listing.splits.items() if pairs}
    main = files["train"] if "train" in files else files["all"]
    measured = constants is None and preprocess is None
    if preprocess is None:
        size = request.image_size or image_size or _folder_image_size(main.paths, notices)
        chans = request.in_chans or (3 if constants else _count_channels(main.paths))
        mean, std = constants or (IMAGENET_MEAN, IMAGENET_STD)
        preprocess = Preprocess(
            size, request.resize, mean=in_channels(mean, chans), std=in_channels(std, chans), crop_pct=crop_pct
        )
    splits: dict[str, Samples] = dict(files)
    skipped = 0
    if fits_in_memory(sum(map(len, files.values())), preprocess.image_size, preprocess.in_chans):
        splits, skipped = _decode_splits(files, preprocess, request, notices)
        if measured:
            training = splits.get("train", splits.get("all"))
            assert isinstance(training, TensorSamples)
            mean, std = channel_statistics(training.images)
            preprocess = replace(preprocess, mean=mean, std=std)
    (train, val, test), bad = _complete_splits(splits, preprocess, request, len(listing.classes), notices)
    _check_classes(train, listing.classes, name, skipped + bad)
    rows = [(split, path, listing.classes[label]) for split, pairs in listing.splits.items() for path, label in pairs]
    return Dataset(
        name=name,
        classes=listing.classes,
        train=train,
        val=val,
        test=test,
        preprocess=preprocess,
        notices=notices,
        skipped=skipped + bad,
        digest=digest_of(rows),
    )


def _check_classes(train: Samples, classes: list[str], name: str, skipped: int) -> None:
    """Raise UserError for a class without a training image: none of its images could be read, or all are held out."""
    counts = torch.bincount(train.labels, minlength=len(classes)).tolist()
    if empty := [each for each, count in zip(classes, counts, strict=True) if not count]:
        why = f"; {skipped} images could not be read" if skipped else ""
        raise UserError(f"{name}: no training image of {', '.join(empty[:3])} is left{why}")


def in_channels(values: tuple[float, ...], chans: int) -> tuple[float, ...]:
    """Constants of three channels for ``chans`` channels; one channel gets their mean."""
    return values if chans == len(values) else (round(sum(values) / len(values), 4),) * chans


def from_shards(root: Path, request: DataRequest, preprocess: Preprocess | None) -> Dataset:
    """A data set from a folder of WebDataset shards. Shards are for large images, which are decoded on demand."""
    notices: list[str] = []
    classes, shards = read_shards(root, notices)
    if preprocess is None:
        chans = request.in_chans or 3
        mean, std = in_channels(IMAGENET_MEAN, chans), in_channels(IMAGENET_STD, chans)
        preprocess = Preprocess(request.image_size or 224, request.resize, mean=mean, std=std)
    splits: dict[str, Samples] = dict(shards)
    (train, val, test), bad = _complete_splits(splits, preprocess, request, len(classes), notices)
    return Dataset(
        name=root.resolve().name,
        classes=classes,
        train=train,
        val=val,
        test=test,
        preprocess=preprocess,
        notices=notices,
        skipped=bad,
    )
