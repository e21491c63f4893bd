"""Augmentation is drawn independently for each sample of a batch, and equal keys give equal draws."""

import numpy as np
import pytest
import torch

from residual_attention.data.augment import (
    Augment,
    augment_batch,
    crop_at_random,
    cutout,
    flip_and_crop,
    mix,
    progressive_size,
    shift_and_rotate,
)
from residual_attention.data.loading import TrainingData
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.randomness import derive_seed, numpy_generator, torch_generator
from residual_attention.data.samples import TensorSamples


def images(count: int = 64, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch_generator("images")) + 0.5


def rng() -> np.random.Generator:
    return numpy_generator(0, "test")


def test_nothing_changes_without_strengths():
    batch = images()
    labels = torch.arange(64) % 10
    out, targets = augment_batch(batch, labels, 10, Augment(), rng())
    assert torch.equal(out, batch)
    assert torch.equal(targets, labels)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    batch = images(400)
    out = flip_and_crop(batch, Augment(flip=True), rng())
    mirrored = (out == batch.flip(3)).flatten(1).all(1)
    same = (out == batch).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250


def test_every_padded_crop_is_a_window_of_the_padded_image():
    batch = images(200, 8)
    out = flip_and_crop(batch, Augment(crop_padding=2), rng())
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2))
    seen = set()
    for image, source in zip(out, padded, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(source[:, y : y + 8, x : x + 8], image)]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25  # all offsets occur, drawn independently for each sample


def test_shift_moves_by_its_share_of_the_side_at_most():
    batch = torch.zeros(100, 1, 21, 21)
    batch[:, :, 10, 10] = 1.0
    out = shift_and_rotate(batch, Augment(shift=0.2), rng())
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    y, x = (out[:, 0] * rows).sum((1, 2)), (out[:, 0] * columns).sum((1, 2))
    assert torch.allclose(out.sum((1, 2, 3)), torch.ones(100), atol=1e-4)
    assert (y - 10).abs().max() <= 4.2 + 1e-3
    assert (x - 10).abs().max() <= 4.2 + 1e-3
    assert x.std() > 1


@pytest.mark.parametrize("shape", [(15, 15), (11, 23)])
def test_rotation_keeps_the_distance_from_the_centre(shape):
    height, width = shape
    batch = torch.zeros(50, 1, height, width)
    batch[:, :, height // 2, width // 2 + 4] = 1.0
    out = shift_and_rotate(batch, Augment(rotation=30.0), rng())
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    mass = out[:, 0].sum((1, 2))
    y = (out[:, 0] * rows).sum((1, 2)) / mass - height // 2
    x = (out[:, 0] * columns).sum((1, 2)) / mass - width // 2
    assert torch.allclose((x**2 + y**2).sqrt(), torch.full((50,), 4.0), atol=0.35)
    assert torch.rad2deg(torch.atan2(y, x)).abs().max() <= 31
    assert y.std() > 0.3


def test_cutout_empties_one_square_of_its_side_in_each_image():
    out = cutout(images(300), 6, rng())
    empty = (out == 0).all(1).sum((1, 2))
    assert empty.max() == 36
    assert empty.min() >= 9  # a centre in the corner leaves a quarter
    assert len(empty.unique()) > 3


@pytest.mark.parametrize("augment", [Augment(mixup=0.4), Augment(cutmix=1.0)])
def test_mixed_targets_follow_the_share_of_each_image(augment):
    labels = torch.arange(64)
    constant = labels.float()[:, None, None, None].expand(64, 1, 16, 16)  # each image holds its own class number
    targets = torch.nn.functional.one_hot(labels, 64).float()
    out, mixed = mix(constant, targets, augment, rng())
    assert torch.allclose(mixed.sum(1), torch.ones(64))
    assert torch.allclose(out.mean((1, 2, 3)), (mixed * labels).sum(1), atol=1e-3)
    assert len(mixed.diagonal().unique()) > 20


def test_equal_keys_draw_equally_and_others_do_not():
    augment = Augment(flip=True, crop_padding=2, shift=0.1, rotation=10, cutout=4, mixup=0.2)
    labels = torch.arange(64) % 10

    def draw(*keys):
        return augment_batch(images(), labels, 10, augment, numpy_generator(*keys))

    for left, right in zip(draw(0, 1, 2), draw(0, 1, 2), strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(draw(0, 1, 2)[0], draw(0, 1, 3)[0])
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_progressive_size_grows_to_full_in_steps_of_eight():
    sizes = [progressive_size(32, 0.5, i / 20, 16) for i in range(20)]
    assert sizes[0] == 16
    assert sizes == sorted(sizes)
    assert set(sizes) == {16, 24, 32}
    assert sizes[12:] == [32] * 8
    assert {progressive_size(32, 0.5, i / 20, 16, 4) for i in range(20)} == {16, 20, 24, 28, 32}
    assert progressive_size(33, 1.0, 0.0, 16) == 33


def test_reflected_padding_brings_in_no_new_colours():
    batch = images() + 1.0
    assert flip_and_crop(batch, Augment(crop_padding=4), rng()).min() == 0
    assert flip_and_crop(batch, Augment(crop_padding=4, padding="reflect"), rng()).min() >= 1


def test_a_progressive_crop_is_a_window_of_the_images():
    batch = images()
    small = crop_at_random(batch, 8, rng())
    windows = batch.unfold(2, 8, 1).unfold(3, 8, 1)
    assert any(torch.equal(small, windows[:, :, y, x]) for y in range(9) for x in range(9))


def test_alternate_flips_mirror_every_image_in_every_second_epoch():
    kept = torch.arange(12 * 8, dtype=torch.uint8).view(12, 1, 2, 4)
    data = TrainingData(
        samples=TensorSamples(kept, torch.arange(12)),
        preprocess=Preprocess(4, mean=(0.0,), std=(1 / 255,)),
        augment=Augment(flip=True, alternate_flip=True),
        num_classes=12,
        batch_size=4,
        seed=0,
        device=torch.device("cpu"),
    )
    mirrored = []
    for epoch in range(4):
        seen = {}
        for batch in data.epoch(epoch):
            for image, label in zip(batch.images.round(), batch.targets.tolist(), strict=True):
                assert torch.equal(image, kept[label].float()) != torch.equal(image, kept[label].flip(2).float())
                seen[label] = torch.equal(image, kept[label].flip(2).float())
        mirrored.append([seen[label] for label in range(12)])
    assert mirrored[0] == mirrored[2] == [not value for value in mirrored[1]] == [not value for value in mirrored[3]]
    assert 0 < sum(mirrored[0]) < 12
