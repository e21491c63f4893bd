"""The images held out of a set without splits."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual_attention.boxes.annotations import Box, Picture, Pictures
from residual_attention.detection.splits import hold_out, place_pictures


@pytest.fixture
def pictures(tmp_path) -> Pictures:
    """A hundred images with ``common``: 25 also have ``some``, two ``rare``, one ``single``; ten more are empty."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(110):
        path = tmp_path / f"{i:03d}.png"
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
        names = ["common", *["some"] * (i % 4 == 0), *["rare"] * (i in (3, 60)), *["single"] * (i == 7)]
        found.append(Picture(path, tuple(Box(name, 0, 0, 4, 4) for name in names) if i < 100 else (), 8, 8))
    return Pictures(tuple(found), ("common", "rare", "single", "some"))


def images_of(part: Pictures) -> Counter[str]:
    return Counter(name for picture in part.pictures for name in {box.name for box in picture.boxes})


def names_of(part: Pictures) -> set[str]:
    return {picture.path.name for picture in part.pictures}


def test_every_class_gives_its_share_and_none_its_last_image(pictures):
    kept, held = hold_out(pictures, 0.2, 0, "test")
    assert images_of(held) == {"common": 20, "some": 5, "rare": 1}
    assert images_of(kept)["single"] == images_of(kept)["rare"] == 1
    assert sum(not picture.boxes for picture in held.pictures) == 2
    assert names_of(kept) | names_of(held) == names_of(pictures)
    assert not names_of(kept) & names_of(held)


@pytest.mark.parametrize("seed", range(5))
def test_training_keeps_every_class_whichever_classes_occur_together(tmp_path, seed):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
        names = rng.choice(list("abcdef"), 3)
        found.append(Picture(path, tuple(Box(str(name), 0, 0, 4, 4) for name in names), 8, 8))
    whole = Pictures(tuple(found), tuple("abcdef"))
    kept, held = hold_out(whole, 0.5, seed, "test")
    assert set(images_of(kept)) == set(images_of(whole))
    assert len(held)


def test_the_choice_depends_on_the_content_and_the_seed(pictures, tmp_path):
    _, held = hold_out(pictures, 0.2, 0, "test")
    assert names_of(hold_out(pictures, 0.2, 0, "test")[1]) == names_of(held)
    assert names_of(hold_out(pictures, 0.2, 1, "test")[1]) != names_of(held)
    assert names_of(hold_out(pictures, 0.2, 0, "val")[1]) != names_of(held)
    renamed = []
    for picture in reversed(pictures.pictures):
        path = Path(shutil.copy(picture.path, tmp_path / f"other-{picture.path.name}"))
        renamed.append(Picture(path, picture.boxes, 8, 8))
    _, again = hold_out(Pictures(tuple(renamed), pictures.classes), 0.2, 0, "test")
    assert {name.removeprefix("other-") for name in names_of(again)} == names_of(held)


def test_images_that_are_added_move_few_others(pictures):
    fewer = pictures.subset(i for i in range(110) if i % 11)
    moved = names_of(hold_out(fewer, 0.2, 0, "test")[1]) ^ (
        names_of(hold_out(pictures, 0.2, 0, "test")[1]) & names_of(fewer)
    )
    assert len(moved) <= 6


def test_copies_of_an_image_stay_together(pictures, tmp_path):
    doubled = list(pictures.pictures)
    for picture in pictures.pictures:
        path = Path(shutil.copy(picture.path, tmp_path / f"copy-{picture.path.name}"))
        doubled.append(Picture(path, picture.boxes, 8, 8))
    kept, held = hold_out(Pictures(tuple(doubled), pictures.classes), 0.2, 0, "test")
    assert {name.removeprefix("copy-") for name in names_of(held)} == names_of(hold_out(pictures, 0.2, 0, "test")[1])
    assert not {p.path.read_bytes() for p in held.pictures} & {p.path.read_bytes() for p in kept.pictures}


def divided(pictures: Pictures, **options) -> dict[str, set[str]]:
    found = place_pictures(pictures, {"test": 0.2, "val": 0.1}, 0, **options)
    return {split: names_of(part) for split, part in found.splits.items()}


def test_by_content_images_that_are_added_move_no_others(pictures):
    fewer = pictures.subset(i for i in range(110) if i % 3)
    before, after = divided(fewer), divided(pictures)
    lent = {"003.png", "060.png", "007.png"}  # of the classes that have but one or two images
    assert all(before[split] - lent <= after[split] for split in before)
    assert set(images_of(pictures)) == set(images_of(place_pictures(pictures, {"test": 0.5}, 0).splits["train"]))


def test_by_content_a_later_run_keeps_the_images_of_the_first(pictures):
    first = place_pictures(pictures.subset(range(60)), {"test": 0.2}, 0)
    second = place_pictures(pictures, {"test": 0.2}, 9, first.placed)
    assert names_of(first.splits["train"]) <= names_of(second.splits["train"])
    assert names_of(first.splits["test"]) <= names_of(second.splits["test"])
    assert second.placed.sides.items() >= first.placed.sides.items()
