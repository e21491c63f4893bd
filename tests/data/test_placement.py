"""Splits by content: added images move no others, classes keep both sides, copies stay together."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from residual_attention.classification.config import TrainConfig
from residual_attention.data.fingerprints import (
    LARGEST_FAMILY,
    Families,
    Pair,
    exact_copies,
    fingerprints,
    near_copies,
)
from residual_attention.data.load import load_dataset, load_split
from residual_attention.data.placement import Item, Placed, place
from residual_attention.data.preprocess import Preprocess

TENTHS = {"test": 0.1, "val": 0.1}


def items(count: int, classes: int = 1, name: str = "image") -> list[Item]:
    return [Item(f"{name}{i:04}".encode()[-8:], frozenset([i % classes])) for i in range(count)]


def sides_of(found: list[Item], **options) -> list[str]:
    return place(found, options.pop("near", ()), **{"fractions": TENTHS, "seed": 0, **options}).sides


def test_adding_half_as_many_images_again_moves_none():
    few = items(400, classes=8)
    more = few + items(200, classes=8, name="extra")
    random.Random(0).shuffle(more)
    before = {item.digest: side for item, side in zip(few, sides_of(few), strict=True)}
    after = {item.digest: side for item, side in zip(more, sides_of(more), strict=True)}
    assert {digest: after[digest] for digest in before} == before


def test_the_shares_are_about_those_asked_for_and_the_seed_chooses():
    found = sides_of(items(4000, classes=4))
    assert 0.085 < found.count("test") / 4000 < 0.115
    assert 0.075 < found.count("val") / 4000 < 0.105
    assert found != sides_of(items(4000, classes=4), seed=1)


@pytest.mark.parametrize("each, least_test", [(1, 0), (2, 0), (3, 1), (5, 1), (12, 1)])
def test_a_class_is_never_without_training_images_and_from_three_on_never_without_test_images(each, least_test):
    classes = 60
    found = items(each * classes, classes)
    placement = place(found, (), fractions=TENTHS, seed=0)
    for label in range(classes):
        of_class = [side for item, side in zip(found, placement.sides, strict=True) if label in item.classes]
        assert "train" in of_class
        assert of_class.count("test") >= least_test
    assert bool(placement.lenders["test"]) == (each >= 3)


def test_an_image_of_several_classes_is_not_lent_if_one_of_them_would_lose_its_last():
    found = [Item(bytes([i] * 8), frozenset([0, i])) for i in range(1, 6)]
    assert sides_of(found, fractions={"test": 1e-9}) == ["train"] * 5


def test_copies_and_groups_share_a_side():
    found = [*items(300), *items(300)]
    grouped = [Item(f"g{i:07}".encode(), frozenset([0]), group=f"patient {i // 10}") for i in range(300)]
    near = [Pair(i, i + 1, False) for i in range(0, 300, 2)]
    assert sides_of(found)[:300] == sides_of(found)[300:]
    of_patients = sides_of(grouped)
    assert all(len(set(of_patients[i : i + 10])) == 1 for i in range(0, 300, 10))
    assert len(set(of_patients)) == 3
    together = sides_of(items(300), near=near)
    assert together[::2] == together[1::2]


def test_images_that_a_run_has_placed_stay_and_its_training_images_are_never_tested():
    found = items(300)
    placed = Placed({item.digest: "train" for item in found[:100]} | {item.digest: "test" for item in found[100:120]})
    sides = sides_of(found, seed=7, placed=placed)
    assert sides[:100] == ["train"] * 100
    assert sides[100:120] == ["test"] * 20
    copies = sides_of(found, placed=placed, near=[Pair(0, 299, False), Pair(110, 298, False)])
    assert (copies[299], copies[298]) == ("train", "test")


def test_a_record_is_compact_and_survives_writing():
    placed = Placed({item.digest: side for item, side in zip(items(300), sides_of(items(300)), strict=True)})
    written = placed.to_dict()
    assert Placed.from_dict(written).sides == placed.sides
    assert sum(map(len, written.values())) < 12 * 300
    assert set(placed.held_out().sides.values()) == {"val", "test"}


def photo(seed: int, side: int = 64) -> Image.Image:
    """A smooth random picture with some detail."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((side, side), Image.BICUBIC)
    detail = rng.integers(-12, 13, (side, side, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + detail, 0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path) -> Path:
    root = tmp_path / "photos"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for i in range(20):
            photo(100 * (label == "b") + i).save(root / label / f"{i}.png")
    return root


def test_near_copies_are_found_and_other_images_are_not(photos):
    first = Image.open(photos / "a/0.png")
    ImageEnhance.Brightness(first.resize((60, 60))).enhance(1.1).save(photos / "a/again.jpg", quality=70)
    shutil.copy(photos / "a/1.png", photos / "b/same.png")
    paths = sorted(photos.rglob("*.*"))
    prints = list(fingerprints(paths))
    named = {tuple(sorted(paths[i].name for i in (p.first, p.second))) for p in near_copies(prints)}
    assert named == {("0.png", "again.jpg")}
    assert [{paths[p.first].name, paths[p.second].name} for p in exact_copies(prints)] == [{"1.png", "same.png"}]


def test_images_of_one_kind_are_not_one_family(tmp_path):
    plain = np.zeros((8, 8), np.uint8)
    plain[:, 3:5] = 200
    rng = np.random.default_rng(0)
    paths = []
    for i in range(60):
        noisy = np.clip(plain + rng.integers(0, 40, (8, 8)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    families = Families().join(near_copies(list(fingerprints(paths)))).sets(60)
    assert max(map(len, families), default=0) <= LARGEST_FAMILY


def data_of(root: Path, placed: Placed | None = None, **options):
    return load_dataset(TrainConfig(data=str(root), image_size=16, **options), placed=placed)


@pytest.mark.parametrize(
    ("split", "named"), [("test", ["test"]), ("val", ["validation"]), ("train", ["test", "validation"])]
)
def test_a_split_comes_without_the_notice_on_another(photos, split, named):
    _, notices = load_split(str(photos), Preprocess(16), ["a", "b"], split=split, whole=False)
    held_out = [notice for notice in notices if "are held out for it" in notice]
    assert sorted(notice.split()[1] for notice in held_out) == named


def test_a_folder_that_grows_keeps_its_splits_and_a_copy_is_placed_with_its_original(photos):
    for label in ("a", "b"):
        for i in range(20, 60):
            photo(100 * (label == "b") + i).save(photos / label / f"{i}.png")
    before = data_of(photos)
    assert not any("small classes" in notice for notice in before.notices)
    for label in ("a", "b"):
        for i in range(30):
            photo(1000 + 100 * (label == "b") + i).save(photos / label / f"new{i}.png")
    shutil.copy(photos / "a/3.png", photos / "a/zz copy.png")
    after = data_of(photos)
    assert after.placed.sides.items() >= before.placed.sides.items()
    assert len(after.placed.sides) == 180
    assert any("1 image is an exact or near copy of another, kept in one split" in n for n in after.notices)
    inherited = data_of(photos, before.placed, seed=5)
    assert inherited.placed.sides.items() >= before.placed.sides.items()
    assert any("121 images keep the split that an earlier run gave them; 60 are new" in n for n in inherited.notices)


def test_copies_across_given_splits_are_named(photos):
    for split in ("train", "test"):
        for label in ("a", "b"):
            shutil.copytree(photos / label, photos.parent / "given" / split / label)
    for path in sorted((photos.parent / "given/test").rglob("*.png"))[2:]:
        photo(5000 + int(path.stem) + 100 * (path.parent.name == "b")).save(path)
    data = data_of(photos.parent / "given")
    told = " | ".join(data.notices)
    assert "2 held-out images are copies of training images" in told
    assert "a/0.png (test) and a/0.png" in told


def test_the_rule_of_older_runs_is_kept(photos):
    old = TrainConfig.from_dict({"data": str(photos)})
    assert old.split_rule == "shuffle"
    assert TrainConfig(data=str(photos)).split_rule == "content"
    data = data_of(photos, split_rule="shuffle")
    assert data.placed is None
    assert [len(split) for split in (data.train, data.val, data.test)] == [32, 4, 4]


def test_an_image_that_a_small_class_lent_is_not_trained_on_by_a_run_that_starts_from_the_first():
    few = items(12, classes=4)
    first = place(few, (), fractions={"test": 0.1}, seed=3)
    assert first.lenders["test"]
    placed = Placed({item.digest: side for item, side in zip(few, first.sides, strict=True)})
    more = few + items(400, classes=4, name="extra")
    second = sides_of(more, fractions={"test": 0.1}, seed=3, placed=placed)
    assert second[:12] == first.sides
    assert sides_of(more, fractions={"test": 0.1}, seed=3)[:12] != first.sides
