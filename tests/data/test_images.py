"""One rule for each peculiarity of an image file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from residual_attention.data import images
from residual_attention.data.find import find_images
from residual_attention.data.folders import images_below
from residual_attention.data.images import ImageError, read_image, readable_formats


def pixel(image: Image.Image, x: int = 0, y: int = 0):
    return image.getpixel((x, y))


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    assert read.size == (2, 4)
    assert pixel(read, 1, 0) == (255, 255, 255)


def test_grayscale_is_repeated_and_colour_is_weighted(tmp_path):
    Image.new("L", (2, 2), 77).save(tmp_path / "gray.png")
    assert pixel(read_image(tmp_path / "gray.png")) == (77, 77, 77)
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "red.png")
    gray = read_image(tmp_path / "red.png", in_chans=1)
    assert gray.mode == "L"
    assert pixel(gray) == 76


def test_palette_and_its_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png")
    assert pixel(read_image(tmp_path / "p.png"), 1) == (0, 0, 255)
    image.save(tmp_path / "t.png", transparency=0)
    read = read_image(tmp_path / "t.png")
    assert (pixel(read, 0), pixel(read, 1)) == ((255, 255, 255), (0, 0, 255))


def test_alpha_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (pixel(read, 0), pixel(read, 1)) == ((255, 255, 255), (0, 0, 0))
    Image.new("LA", (1, 1), (0, 0)).save(tmp_path / "la.png")
    assert pixel(read_image(tmp_path / "la.png", in_chans=1)) == 255


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red, green, blue = pixel(read_image(tmp_path / "red.jpg"))
    assert red > 240
    assert max(green, blue) < 15


def test_sixteen_bits_use_the_full_range(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert [pixel(read_image(tmp_path / "a.png"), x) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


def test_floats(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "unit.tif")
    assert [pixel(read_image(tmp_path / "unit.tif", 1), x) for x in range(3)] == [0, 128, 255]
    Image.fromarray(np.array([[0.0, 128.0, 300.0]], dtype=np.float32)).save(tmp_path / "byte.tif")
    assert [pixel(read_image(tmp_path / "byte.tif", 1), x) for x in range(3)] == [0, 128, 255]


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixel(read_image(tmp_path / "a.gif")) == (255, 0, 0)


def test_open_files_are_read_too():
    content = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(content, "PNG")
    content.seek(0)
    assert pixel(read_image(content)) == (255, 0, 0)


def bomb(path, side=30_000):
    """A PNG whose header claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def broken_files(folder):
    Image.effect_noise((64, 64), 50).convert("RGB").save(folder / "whole.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:600])
    (folder / "text.png").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    bomb(folder / "bomb.png")
    (folder / "folder.png").mkdir()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("truncated.jpg", "truncated"),
        ("text.png", "not an image"),
        ("empty.png", "not an image"),
        ("bomb.png", "pixels"),
        ("missing.png", "no such file"),
        ("folder.png", "a folder"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_path_and_reason(tmp_path, name, reason):
    broken_files(tmp_path)
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_avif_is_read_by_pillow_itself(tmp_path):
    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "red.avif", quality=90)
    red, green, _ = pixel(read_image(tmp_path / "red.avif"))
    assert red > 180
    assert green < 60


def test_heic_is_read_with_its_extra_and_without_it_the_error_names_it(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    heif.register_heif_opener()
    path = tmp_path / "IMG_0001.HEIC"
    Image.new("RGB", (64, 48), (200, 30, 30)).save(path, format="HEIF")
    assert read_image(path).size == (64, 48)
    assert list(images_below(tmp_path)) == [path]
    without = tuple(name for name in readable_formats() if name != "HEIF")
    monkeypatch.setattr(images, "readable_formats", lambda: without)
    with pytest.raises(ImageError, match=r"IMG_0001.HEIC: HEIC needs the extra heif: pip install"):
        read_image(path)


def test_a_smaller_decoding_has_the_same_content_and_remembers_the_size(tmp_path):
    Image.new("RGB", (640, 480), (200, 30, 30)).save(tmp_path / "a.jpg")
    small = read_image(tmp_path / "a.jpg", 1, least_side=64)
    assert 64 <= min(small.size) < 480
    assert small.info["original"] == ((640, 480), "RGB")


def test_what_is_not_an_image_in_a_folder_is_counted_and_named(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "movie.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    notices: list[str] = []
    assert find_images([str(tmp_path)], notices) == [tmp_path / "a.png"]
    assert notices == [f"{tmp_path}: ignored 2 entries that are not images: movie.mp4, notes.txt"]
