"""Data sets for the training core: splits, class names, preprocessing and notices."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from .digest import listing_digest
from .folders import FolderListing, Label
from .folding import fold_out
from .placement import Placed
from .preprocess import Preprocess
from .readable import check_classes, check_files, unreadable_notice
from .regions import Regions
from .request import DataRequest, folding
from .samples import FileSamples, Samples, TensorSamples, decode, fits_in_memory
from .sampling import count_channels, suggested_image_size
from .shards import read_shards
from .splits import HeldOutNotice, add_label_noise, class_balanced_subset, stratified_split

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_MEASURED = 5_000  # training images used to measure mean and standard deviation


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """``flip``: whether mirrored images keep their class; ``skipped``: number of unreadable images left out;
    ``digest``: of the files, by `digest_of`.
    ``placed``: the split of each image by its content, None if it is not known.
    ``regions``: where the evidence for each training image's class may lie.
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
    placed: Placed | None = None
    regions: Regions | None = None

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, so that those of N images are an (N, K) matrix."""
        return self.train is not None and self.train.labels.ndim == 2


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of uint8 images (N, C, S, S), divided by 255, to four digits."""
    step = max(1, len(images) // MAX_MEASURED)
    values = images[::step].double().transpose(0, 1).flatten(1) / 255
    mean = tuple(round(v, 4) for v in values.mean(1).tolist())
    std = tuple(max(round(v, 4), 1e-3) for v in values.std(1, correction=0).tolist())
    return mean, std


def file_samples(pairs: list[tuple[Path, Label]], num_classes: int, *, several: bool = False) -> FileSamples:
    """Files with their labels: (N,) int64, or (N, K) float32 of 0 and 1 with ``several`` labels per image."""
    paths = tuple(path for path, _ in pairs)
    if not several:
        return FileSamples(paths, torch.tensor([label for _, label in pairs], dtype=torch.int64))
    labels = torch.zeros(len(pairs), num_classes)
    for row, (_, of_image) in zip(labels, pairs, strict=True):
        row[list(of_image) if isinstance(of_image, tuple) else of_image] = 1.0
    return FileSamples(paths, labels)


def hold_out(
    train: Samples, fraction: float, seed: int, name: str, notices: list[str]
) -> tuple[Samples, Samples | None]:
    """Hold out a stratified share and add a notice; None if ``fraction`` is 0 or no class has a sample to spare."""
    kept, held = stratified_split(train.labels, fraction, seed)
    if not len(held):
        return train, None
    how = f"no {name} split: {len(held)} of {len(train)} training images are held out for it"
    notices.append(HeldOutNotice(name, how))
    return train.subset(kept), train.subset(held)


def split_as_configured(
    train: Samples,
    val: Samples | None,
    test: Samples | None,
    request: DataRequest,
    num_classes: int,
    notices: list[str],
) -> tuple[Samples, Samples | None, Samples | None]:
    """Hold out validation images if there are none, then apply ``limit_train`` and label noise to training images.

    With ``request.fold`` the fold is the test split first.
    """
    if folding(request):
        train, val, test = fold_out(train, val, test, request, notices)
    if val is None:
        train, val = hold_out(train, request.val_fraction, request.seed, "validation", notices)
    if train.labels.ndim == 2 and request.label_noise:
        raise UserError("label_noise needs data with one class per image")
    if request.limit_train is not None and request.limit_train < len(train):
        balanced = ", balanced across classes" if train.labels.ndim == 1 else ""
        notices.append(f"training on {request.limit_train} of {len(train)} images{balanced}")
        train = train.subset(class_balanced_subset(train.labels, request.limit_train, request.seed))
    if request.label_noise:
        count = round(request.label_noise * len(train))
        notices.append(f"{count} of {len(train)} training labels were replaced by another class")
        train = train.relabelled(add_label_noise(train.labels, request.label_noise, num_classes, request.seed))
    return train, val, test


def _decode_splits(
    splits: dict[str, FileSamples],
    preprocess: Preprocess,
    request: DataRequest,
    ours: frozenset[str],
    notices: list[str],
) -> tuple[dict[str, Samples], int]:
    """Decode the splits into memory; unreadable training images are left out and reported."""
    found: dict[str, Samples] = {}
    unreadable: list[str] = []
    for name, samples in splits.items():
        skip_bad = request.skip_bad_images and name in {"train", "all"} | ours
        found[name], errors = decode(samples, preprocess, skip_bad=skip_bad)
        unreadable += map(str, errors)
    if unreadable:
        notices.append(unreadable_notice(sorted(unreadable)))
    return found, len(unreadable)


def _complete_splits(
    splits: dict[str, Samples],
    preprocess: Preprocess,
    request: DataRequest,
    num_classes: int,
    notices: list[str],
    ours: frozenset[str] = frozenset(),
) -> tuple[tuple[Samples, Samples | None, Samples | None], int]:
    """Train, val and test, and the number of unreadable images left out.

    Missing validation images are held out of training, and so are test images if the data have no splits at all.
    ``ours``: splits that are already held out by content; they may lose unreadable images, as training may.
    """
    if ours:
        request = replace(request, val_fraction=0.0, test_fraction=0.0, fold=None)
    train, val, test = splits.get("train"), splits.get("val"), splits.get("test")
    given = {name: name in splits and name not in ours for name in ("val", "test")}
    if train is None and folding(request):
        train = splits["all"]
    if train is None:
        train, test = hold_out(splits["all"], request.test_fraction, request.seed, "test", notices)
    elif test is None and not ours & {"test"} and not folding(request):
        notices.append("no test split, so no test results are reported")
    train, val, test = split_as_configured(train, val, test, request, num_classes, notices)
    val, bad_val = check_files(val, preprocess, skip_bad=request.skip_bad_images and not given["val"])
    test, bad_test = check_files(test, preprocess, skip_bad=request.skip_bad_images and not given["test"])
    bad = bad_val + bad_test
    if bad:
        notices.append(unreadable_notice(bad))
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
    files = {
        split: file_samples(pairs, len(listing.classes), several=listing.several)
        for split, pairs in listing.splits.items()
        if pairs
    }
    main = files["train"] if "train" in files else files["all"]
    measured = constants is None and preprocess is None
    if preprocess is None:
        size = request.image_size or image_size or suggested_image_size(main.paths, notices)
        chans = request.in_chans or (3 if constants else count_channels(main.paths))
        mean, std = (in_channels(values, chans) for values in constants or (IMAGENET_MEAN, IMAGENET_STD))
        preprocess = Preprocess(size, request.resize, mean=mean, std=std, crop_pct=crop_pct)
    splits: dict[str, Samples] = dict(files)
    skipped = 0
    if fits_in_memory(sum(map(len, files.values())), preprocess.image_size, preprocess.in_chans):
        splits, skipped = _decode_splits(files, preprocess, request, listing.ours, notices)
        if measured:
            training = splits.get("train", splits.get("all"))
            assert isinstance(training, TensorSamples)
            check_classes(training, listing.classes, name, skipped)
            mean, std = channel_statistics(training.images)
            preprocess = replace(preprocess, mean=mean, std=std)
    num_classes = len(listing.classes)
    (train, val, test), bad = _complete_splits(splits, preprocess, request, num_classes, notices, listing.ours)
    check_classes(train, listing.classes, name, skipped + bad)
    return Dataset(
        name=name,
        classes=listing.classes,
        train=train,
        val=val,
        test=test,
        preprocess=preprocess,
        notices=notices,
        skipped=skipped + bad,
        digest=listing_digest(listing),
        placed=listing.placed,
    )


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
