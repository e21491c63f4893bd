"""What `ran check` finds of errors that were planted, and what it finds in CIFAR-10 itself.

The 10,000 test images of CIFAR-10 and of CIFAR-100 are written as folders. 300 images move to another class, drawn
uniformly, and 200 others get a copy in their class: 50 each with the same bytes, compressed as JPEG (quality 75),
brightened by 10 %, and cropped by a pixel at each side and resized. The rest may hold errors of its own, which count as
false alarms here, so a precision is a lower bound.

No network saw a test image in its training. On CIFAR-10 the features are still too kind: the CIFAR-100 weights started
from CIFAR-10's, so they know its classes. On CIFAR-100 the features are those of the CIFAR-10 weights, to which its
classes are new.

python benchmarks/check_planted.py --cifar10 DIR --cifar100 DIR [--photos DIR] [--out results/check_cifar10.json]
"""

import argparse
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from record import write_record
from residual_attention.check.findings import Findings
from residual_attention.check.labels import default_network
from residual_attention.check.look import CheckOptions, check
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.samples import TensorSamples

SWAPPED, COPIES = 300, 200
KINDS = ("exact", "jpeg", "brighter", "cropped")
FIRST_SUSPECTS = 20  # of CIFAR-10 itself, recorded by name


@dataclass(frozen=True)
class Planted:
    """Paths below the folder: the swapped images, and by kind of copy the pairs of original and copy."""

    swapped: set[str]
    copies: dict[str, list[tuple[str, str]]]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def copied(image: Image.Image, kind: str) -> tuple[str, bytes]:
    """Suffix and content of a copy."""
    if kind == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
        return ".jpg", buffer.getvalue()
    if kind == "brighter":
        return ".png", png(ImageEnhance.Brightness(image).enhance(1.1))
    if kind == "cropped":
        box = (1, 1, image.width - 1, image.height - 1)
        return ".png", png(image.crop(box).resize(image.size, Image.Resampling.BICUBIC))
    return ".png", png(image)


def plant(images: np.ndarray, labels: np.ndarray, classes: list[str], folder: Path, seed: int) -> Planted:
    """Write images (N, H, W, 3) as class folders with errors; the clean data with a negative ``seed``."""
    rng = np.random.default_rng(max(seed, 0))
    chosen = rng.permutation(len(images))[: SWAPPED + COPIES] if seed >= 0 else np.array([], dtype=int)
    given = labels.copy()
    swapped, doubled = chosen[:SWAPPED], chosen[SWAPPED:]
    given[swapped] = (given[swapped] + rng.integers(1, len(classes), len(swapped))) % len(classes)
    names = [f"{classes[label]}/{i:05}" for i, label in enumerate(given)]
    for name in classes:
        (folder / name).mkdir(parents=True)
    for i, pixels in enumerate(images):
        (folder / f"{names[i]}.png").write_bytes(png(Image.fromarray(pixels)))
    pairs: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS} if len(doubled) else {}
    for number, i in enumerate(doubled):
        kind = KINDS[number % len(KINDS)]
        suffix, content = copied(Image.fromarray(images[i]), kind)
        (folder / f"{names[i]}-copy{suffix}").write_bytes(content)
        pairs[kind].append((f"{names[i]}.png", f"{names[i]}-copy{suffix}"))
    return Planted({f"{names[i]}.png" for i in swapped}, pairs)


def families_of(findings: Findings) -> list[set[str]]:
    return [{image.path for image in family.images} for family in findings.copies.families]


def measured(clean: Findings, found: Findings, planted: Planted) -> dict:
    """Recall and precision in percent. Copies that the clean data hold too are no false alarms."""
    labels = found.labels
    assert labels is not None
    assert clean.labels is not None
    suspects = [suspect.image.path for suspect in labels.suspects]
    hits = len(planted.swapped & set(suspects))
    families, known = families_of(found), families_of(clean)
    pairs = [pair for of_kind in planted.copies.values() for pair in of_kind]
    true = [family for family in families if any(set(pair) <= family for pair in pairs)]
    own = [family for family in families if family not in true and any(family & other == family for other in known)]
    recall = {
        kind: 100 * sum(any(set(pair) <= family for family in families) for pair in of_kind) / len(of_kind)
        for kind, of_kind in planted.copies.items()
    }
    all_found = sum(any(set(pair) <= family for family in families) for pair in pairs)
    return {
        "images": found.images,
        "network": labels.network,
        "agreement_pct": round(labels.accuracy_pct, 1),
        "labels": {
            "planted": len(planted.swapped),
            "suspects": len(suspects),
            "recall_pct": round(100 * hits / len(planted.swapped), 1),
            "precision_pct": round(100 * hits / len(suspects), 1),
            "precision_of_first_100_pct": round(len(planted.swapped & set(suspects[:100])), 1),
            "precision_of_first_300_pct": round(len(planted.swapped & set(suspects[:300])) / 3, 1),
            "suspects_in_clean_data": len(clean.labels.suspects),
        },
        "copies": {
            "planted": len(pairs),
            "recall_pct": round(100 * all_found / len(pairs), 1),
            "recall_by_kind_pct": recall,
            "precision_pct": round(100 * len(true) / max(1, len(families) - len(own)), 1),
            "sets_in_clean_data": len(known),
        },
        "time_s": {stage: round(seconds, 1) for stage, seconds in found.time_s.items()},
    }


def on_planted(name: str, data_dir: Path | None, seed: int) -> dict:
    dataset = load_dataset(DataRequest(data=name, data_dir=data_dir))
    test = dataset.test
    assert isinstance(test, TensorSamples)
    images, labels = test.images.permute(0, 2, 3, 1).numpy(), test.labels.numpy()
    found = []
    for number in (-1, seed):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "data"
            planted = plant(images, labels, dataset.classes, folder, number)
            options = CheckOptions(data=str(folder), model=default_network(name), out=Path(scratch) / "check")
            found.append(check(options).findings)
    return measured(found[0], found[1], planted)


def on_itself(data_dir: Path | None) -> dict:
    """The 60,000 images of CIFAR-10 as they are."""
    with tempfile.TemporaryDirectory() as scratch:
        found = check(CheckOptions(data="cifar10", data_dir=data_dir, out=Path(scratch))).findings
    labels, copies = found.labels, found.copies
    assert labels is not None
    splits = [suspect.image.split for suspect in labels.suspects]
    first = [
        {"image": one.image.path, "given": one.given, "likely": one.likely} for one in labels.suspects[:FIRST_SUSPECTS]
    ]
    return {
        "images": found.images,
        "network": labels.network,
        "caution": labels.caution,
        "agreement_pct": round(labels.accuracy_pct, 1),
        "suspects": {split: splits.count(split) for split in ("train", "test")},
        "first_suspects": first,
        "copies": {
            "exact": copies.exact,
            "near": copies.near,
            "test_images_with_a_copy_in_train": copies.held_out_in_training,
            "sets_of_several_classes": copies.classes_differ,
        },
        "time_s": {stage: round(seconds, 1) for stage, seconds in found.time_s.items()},
    }


def on_photos(folder: Path) -> dict:
    """How long photographs take: their reading is most of it."""
    with tempfile.TemporaryDirectory() as scratch:
        found = check(CheckOptions(data=str(folder), out=Path(scratch))).findings
    sizes = found.overview.sizes
    assert sizes is not None
    return {
        "images": found.images,
        "median_px": sizes.median,
        "time_s": {stage: round(seconds, 2) for stage, seconds in found.time_s.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 folder; downloaded by default")
    parser.add_argument("--cifar100", type=Path, help="CIFAR-100 folder; downloaded by default")
    parser.add_argument("--photos", type=Path, help="a folder of photographs, for the time alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = {
        "seed": given.seed,
        "planted": {
            "cifar10": on_planted("cifar10", given.cifar10, given.seed),
            "cifar100": on_planted("cifar100", given.cifar100, given.seed),
        },
        "cifar10": on_itself(given.cifar10),
    }
    if given.photos is not None:
        result["photos"] = on_photos(given.photos)
    write_record(result, given.out)


if __name__ == "__main__":
    main()
