"""Maps land on the pixels that the network saw, whatever the preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention.attention.geometry import box_on_input, on_original, upsample
from residual_attention.data.preprocess import Preprocess

SIZE, BOX = (300, 180), (120, 60, 180, 120)  # width x height; the bright square


def bright_square(size=SIZE, box=BOX) -> Image.Image:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(picture)


def bounds(values: torch.Tensor) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the pixels brighter than one half."""
    rows, columns = torch.where(values.nan_to_num(0) > 0.5)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("size, box", [(SIZE, BOX), ((180, 300), (60, 120, 120, 180)), ((97, 61), (40, 20, 60, 40))])
def test_a_bright_square_returns_to_its_place(resize, crop_pct, size, box):
    preprocess = Preprocess(image_size=150, resize=resize, crop_pct=crop_pct, mean=(0, 0, 0), std=(1, 1, 1))
    seen = preprocess(bright_square(size, box)).mean(0)
    back = on_original(seen, preprocess, *size)
    assert back.shape == (size[1], size[0])
    assert np.abs(np.subtract(bounds(back), box)).max() <= 1


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_a_box_follows_the_image(resize):
    preprocess = Preprocess(image_size=150, resize=resize, mean=(0, 0, 0), std=(1, 1, 1))
    seen = preprocess(bright_square()).mean(0)
    box = box_on_input(BOX, preprocess, *SIZE)
    assert box is not None
    assert np.abs(np.subtract(bounds(seen), box)).max() <= 1


def test_only_a_crop_leaves_something_unseen():
    values = torch.rand(8, 8)
    for resize, unseen in (("crop", 1 - 180 / 300), ("squash", 0.0), ("letterbox", 0.0)):
        back = on_original(values, Preprocess(image_size=32, resize=resize), *SIZE)
        assert back.isnan().float().mean() == pytest.approx(unseen, abs=0.01)
    assert box_on_input((0, 0, 20, 20), Preprocess(image_size=32), *SIZE) is None


def test_coarse_maps_keep_their_peak():
    values = torch.zeros(8, 8)
    values[2, 6] = 1.0  # centre at 6.5 / 8 of the width, 2.5 / 8 of the height
    back = on_original(values, Preprocess(image_size=32, resize="squash"), 160, 80)
    row, column = divmod(int(back.argmax()), 160)
    assert abs(column + 0.5 - 130) <= 1
    assert abs(row + 0.5 - 25) <= 1
    assert torch.equal(upsample(values, 8, 8), values)
