"""The named data sets: digits (embedded), CIFAR-10 and -100, ImageNet."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from ..errors import DataNotFoundError, UserError
from ..plugins import Choice, Choices
from .cache import cache_folder
from .datasets import IMAGENET_MEAN, IMAGENET_STD, Dataset, from_listing, in_channels, split_as_configured
from .folders import SPLIT_NAMES, scan_folder
from .preprocess import Preprocess
from .request import DataRequest
from .samples import IN_MEMORY_BYTES, Samples, TensorSamples
from .splits import stratified_split

DIGITS_TEST_SEED = 1797  # the test split is fixed; it does not depend on the run's seed
DIGITS_MEAN, DIGITS_STD = (0.3049,), (0.3183,)
CIFAR_CONSTANTS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def digits(request: DataRequest, preprocess: Preprocess | None = None) -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8x8 px, enlarged; a fixed stratified fifth is the test split."""
    from sklearn.datasets import load_digits

    size, chans = request.image_size or 16, request.in_chans or 1
    data: Any = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] * (255 / 16)  # (1797, 1, 8, 8), 0 to 16
    images = F.interpolate(images, (size, size), mode="bilinear").round().to(torch.uint8).repeat(1, chans, 1, 1)
    everything = TensorSamples(images, torch.tensor(data.target, dtype=torch.int64))
    kept, held = stratified_split(everything.labels, 0.2, DIGITS_TEST_SEED)
    preprocess = preprocess or Preprocess(size, request.resize, mean=DIGITS_MEAN * chans, std=DIGITS_STD * chans)
    notices: list[str] = []
    train, val, test = split_as_configured(everything.subset(kept), None, everything.subset(held), request, 10, notices)
    return Dataset(
        name="digits",
        classes=[str(i) for i in range(10)],
        train=train,
        val=val,
        test=test,
        preprocess=preprocess,
        flip=False,
        notices=notices,
    )


def _has_class_folders(folder: Path) -> bool:
    return any(p.is_dir() and p.name.lower() in SPLIT_NAMES for p in folder.iterdir())


def would_download(data: str | None, data_dir: Path | None) -> bool:
    """Whether reading the data set would fetch it: CIFAR that is neither given nor in the cache."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}.get(data or "")
    return kind is not None and data_dir is None and not (cache_folder() / kind.base_folder).is_dir()


def _torchvision_cifar(name: str, root: Path, *, download: bool) -> tuple[list[str], dict[str, TensorSamples]]:
    """Read class names and both splits in torchvision's layout. Raises RuntimeError or OSError like torchvision."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    splits = {}
    classes: list[str] = []
    for split, is_train in (("train", True), ("test", False)):
        data = kind(str(root), train=is_train, download=download)
        classes = list(data.classes)
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
        splits[split] = TensorSamples(images, torch.tensor(data.targets, dtype=torch.int64))
    return classes, splits


def _cifar_splits(name: str, data_dir: Path | None) -> tuple[list[str], dict[str, TensorSamples]]:
    """Read CIFAR from --data-dir in torchvision's layout, or from the cache, downloading it if missing."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    archive, folder = kind.filename, kind.base_folder
    if data_dir is not None:
        if not ((data_dir / folder).is_dir() or (data_dir / archive).is_file()):
            raise UserError(f"{data_dir} holds neither {folder}/ nor {archive} nor train/ and test/ with class folders")
        root = data_dir
        if not (data_dir / folder).is_dir():
            root = _unpacked(data_dir / archive, kind.tgz_md5)
        try:
            return _torchvision_cifar(name, root, download=False)
        except (RuntimeError, OSError) as error:
            raise UserError(f"{data_dir / folder} is incomplete or damaged: {error}") from None
    root = cache_folder()
    if not (root / folder).is_dir():
        print(f"downloading {name} to {root}", file=sys.stderr, flush=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            return _torchvision_cifar(name, root, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataNotFoundError(
            f"{name} cannot be downloaded ({reason}): put {archive} into {root}, or give its folder with --data-dir"
        ) from None


def _unpacked(archive: Path, md5: str) -> Path:
    """Unpack the archive once, into the cache: data folders are never written to."""
    from torchvision.datasets.utils import check_integrity, extract_archive

    if not check_integrity(str(archive), md5):
        raise UserError(f"{archive} is incomplete or damaged: its MD5 is not {md5}")
    root = cache_folder() / f"unpacked-{md5}"
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as folder:
            extract_archive(str(archive), folder)
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(folder, root)
                os.mkdir(folder)  # for the context to remove
    return root


def _cifar(name: str, request: DataRequest, preprocess: Preprocess | None) -> Dataset:
    data_dir = request.data_dir
    if data_dir is not None and not data_dir.is_dir():
        raise DataNotFoundError(f"--data-dir {data_dir}: no such folder")
    constants = CIFAR_CONSTANTS[name]
    if data_dir is not None and _has_class_folders(data_dir):
        listing = scan_folder(data_dir)
        return from_listing(name, listing, request, image_size=32, constants=constants, preprocess=preprocess)
    classes, splits = _cifar_splits(name, data_dir)
    if preprocess is None:
        mean, std = (in_channels(values, request.in_chans or 3) for values in constants)
        preprocess = Preprocess(request.image_size or 32, request.resize, mean=mean, std=std)
    ready = {split: _as_read(samples, preprocess) for split, samples in splits.items()}
    notices: list[str] = []
    train, val, test = split_as_configured(ready["train"], None, ready["test"], request, len(classes), notices)
    return Dataset(name=name, classes=classes, train=train, val=val, test=test, preprocess=preprocess, notices=notices)


def _as_read(samples: TensorSamples, preprocess: Preprocess) -> Samples:
    """Preprocess decoded images as if they were read from files.

    Raises UserError if the result does not fit in memory.
    """
    side, chans = preprocess.image_size, preprocess.in_chans
    if side == 32 and chans == 3:
        return samples
    if len(samples) * chans * side * side > IN_MEMORY_BYTES:
        gibibytes = len(samples) * chans * side * side / 2**30
        raise UserError(
            f"--image-size {side}: {len(samples)} images would take {gibibytes:.0f} GiB of memory; give the data "
            "as class folders (--data-dir), which are read from disk"
        )
    from PIL import Image

    images = [preprocess.to_uint8(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in samples.images]
    return TensorSamples(torch.stack(images), samples.labels)


def cifar10(request: DataRequest, preprocess: Preprocess | None = None) -> Dataset:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32x32 px, 10 classes."""
    return _cifar("cifar10", request, preprocess)


def cifar100(request: DataRequest, preprocess: Preprocess | None = None) -> Dataset:
    """CIFAR-100 (Krizhevsky, 2009): as CIFAR-10 with 100 classes."""
    return _cifar("cifar100", request, preprocess)


def imagenet(request: DataRequest, preprocess: Preprocess | None = None) -> Dataset:
    """ImageNet in class folders below train/ and val/.

    The published validation images serve as the *test* split; the validation split is held out of training.
    """
    if request.data_dir is None:
        raise DataNotFoundError(
            "imagenet cannot be downloaded: give the folder that holds train/ and val/ with --data-dir"
        )
    listing = scan_folder(request.data_dir)
    if "test" not in listing.splits and "val" in listing.splits:
        listing.splits["test"] = listing.splits.pop("val")
        listing.notices.append("the val folder is used as the test split; validation images are held out of training")
    constants = (IMAGENET_MEAN, IMAGENET_STD)
    return from_listing(
        "imagenet", listing, request, image_size=224, constants=constants, crop_pct=0.875, preprocess=preprocess
    )


Source = Callable[[DataRequest, Preprocess | None], Dataset]
S = TypeVar("S", bound=Source)

SOURCES: Choices[Choice] = Choices(
    "data set",
    {
        "digits": Choice("handwritten digits, included in scikit-learn", digits),
        "cifar10": Choice("CIFAR-10, downloaded", cifar10),
        "cifar100": Choice("CIFAR-100, downloaded", cifar100),
        "imagenet": Choice("ImageNet in class folders", imagenet),
    },
)


def register_data_source(name: str, *, text: str = "") -> Callable[[S], S]:
    """A decorator: registers a function that loads DATA ``name``.

    It takes a `DataRequest` and a trained model's `Preprocess` or None, and returns a `Dataset`.
    `datasets.split_as_configured` holds out validation images and applies the request's limit and label noise. If a
    ``Preprocess`` is given, prepare images with it instead of measuring mean and std.
    """
    return SOURCES.register(name, lambda function: Choice(text, function))
