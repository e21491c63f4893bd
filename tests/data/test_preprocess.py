"""Images become squares by documented geometry, and the inverse is exact."""

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention.data.images import read_image
from residual_attention.data.preprocess import Preprocess

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("size", [(320, 160), (90, 200), (64, 64), (17, 500)])
def test_geometry_finds_a_bright_square_where_it_was(resize, size):
    width, height = size
    preprocess = Preprocess(64, resize, mean=(0.0, 0.0, 0.0), std=STD)  # padding is black, as the image is
    left, top, side = width // 2 - 4, height // 2 - 4, 8
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    bright = preprocess.to_uint8(Image.fromarray(pixels)).float().mean(0)
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    scale_x, scale_y, offset_x, offset_y = preprocess.geometry(width, height)
    x = (bright * columns).sum() / bright.sum() * scale_x + offset_x
    y = (bright * rows).sum() / bright.sum() * scale_y + offset_y
    tolerance = max(1.0, 0.5 * max(scale_x, scale_y))
    assert abs(x.item() - (left + side / 2)) <= tolerance
    assert abs(y.item() - (top + side / 2)) <= tolerance


def test_letterbox_pads_with_the_mean_which_is_zero_to_the_network():
    preprocess = Preprocess(32, "letterbox", mean=MEAN, std=STD)
    image = preprocess(Image.new("RGB", (64, 16), "white"))
    assert image[:, 0].abs().max() < 0.02
    assert image[:, 16].min() > 1


def test_crop_takes_the_centre_and_crop_pct_more_around_it():
    image = Image.new("RGB", (80, 40), "black")
    image.paste("white", (20, 0, 60, 40))
    assert Preprocess(40, "crop", mean=MEAN, std=STD).to_uint8(image).min() == 255
    assert Preprocess(40, "crop", mean=MEAN, std=STD, crop_pct=0.5).to_uint8(image).min() == 255
    assert Preprocess(40, "squash", mean=MEAN, std=STD).to_uint8(image).min() == 0


@pytest.mark.parametrize("mode, chans", [("L", 3), ("RGB", 1), ("RGB", 3), ("L", 1)])
def test_channels_and_normalisation(mode, chans):
    preprocess = Preprocess(16, "crop", mean=MEAN[:chans], std=STD[:chans])
    image = Image.effect_noise((16, 16), 60).convert(mode)
    out = preprocess(image)
    assert out.shape == (chans, 16, 16)
    assert out.dtype == torch.float32
    expected = preprocess.to_uint8(image).float() / 255
    for channel in range(chans):
        assert torch.allclose(out[channel], (expected[channel] - MEAN[channel]) / STD[channel], atol=1e-5)
    assert torch.equal(preprocess.denormalize(out), preprocess.to_uint8(image))


def test_an_image_of_the_right_size_is_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for resize in ("crop", "squash", "letterbox"):
        out = Preprocess(32, resize, mean=MEAN, std=STD).to_uint8(Image.fromarray(pixels))
        assert torch.equal(out, torch.from_numpy(pixels).permute(2, 0, 1))


def test_dictionaries_come_back_and_unknown_keys_are_refused():
    preprocess = Preprocess(48, "letterbox", mean=MEAN, std=STD, crop_pct=0.9)
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    with pytest.raises(ValueError, match="unknown preprocessing colour"):
        Preprocess.from_dict({**preprocess.to_dict(), "colour": 1})
    with pytest.raises(ValueError, match="resize must be one of"):
        Preprocess(48, "stretch")


@pytest.mark.parametrize("kind", ["sixteen.png", "alpha.png", "turned.jpg", "palette.gif", "cmyk.jpg"])
def test_an_image_given_by_the_user_follows_the_rules_of_files(tmp_path, kind):
    values = np.arange(48 * 32, dtype=np.uint16).reshape(32, 48)
    rgb = Image.fromarray((values % 251).astype(np.uint8)).convert("RGB")
    path = tmp_path / kind
    if kind == "sixteen.png":
        Image.fromarray(values * 40).save(path)
    elif kind == "alpha.png":
        rgb.putalpha(Image.fromarray((values % 256).astype(np.uint8)))
        rgb.save(path)
    elif kind == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        rgb.save(path, exif=exif)
    else:
        rgb.convert("P" if kind == "palette.gif" else "CMYK").save(path)
    for chans in (1, 3):
        preprocess = Preprocess(32, "crop", mean=(0.5,) * chans, std=(0.5,) * chans)
        with Image.open(path) as image:
            assert torch.equal(preprocess(image), preprocess(read_image(path, chans)))
