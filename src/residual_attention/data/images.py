"""Reads one image file, by the same rules in training, evaluation and prediction.

- EXIF orientation is applied.
- Grayscale is repeated to RGB; colour is converted to grayscale (ITU-R 601) for networks with one input channel.
- Palettes are expanded, including their transparency; alpha is composited over white.
- CMYK (also inverted, as Adobe writes it) and other colour spaces are converted by Pillow.
- 16-bit channels are scaled to 8 bits over the full range, 65535 to 255. 32-bit integers are scaled like 16-bit
  ones if they fit, otherwise by their maximum. Floats in [0, 1] are multiplied by 255; other floats are taken as
  8-bit values and clipped.
- Only the first frame of an animation is read.
- A truncated file, a file that is not an image, or an image above `MAX_PIXELS` (checked in the header, before
  decoding) raises `ImageError`.
"""

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError
from ..names import printable
from .walk import is_regular

T = TypeVar("T")
MAX_PIXELS = 64_000_000  # about 200 MB decoded: above camera photographs, below decompression bombs
WHITE = (255, 255, 255, 255)
Source = Path | BinaryIO


Picture = Image.Image | np.ndarray | str | Path
"""An image, or the path of one."""


class ImageError(UserError):
    """A file that cannot be read as an image; the message is one line with the path and the reason."""


FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF", "ICO", "TGA")


HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_NEEDED = "HEIC needs the extra heif: pip install 'residual-attention[heif]'"


@cache
def readable_formats() -> tuple[str, ...]:
    """The `FORMATS` that this Pillow build reads. Formats that start other programs (EPS) are excluded.

    AVIF comes with Pillow 11.3 and later; HEIC, the format of many telephones, with `pillow_heif`.
    """
    Image.init()
    with contextlib.suppress(ImportError):
        pillow_heif = importlib.import_module("pillow_heif")
        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _name(source: Source) -> str:
    return printable(source if isinstance(source, Path) else getattr(source, "name", "image"))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert integer and float images of more than 8 bits to mode L."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        scaled = np.nan_to_num(values * 255.0 if values.size and values.max() <= 1.0 else values)
    else:
        top = 65535 if values.size == 0 or values.max() <= 65535 else int(values.max())
        scaled = values.astype(np.float64) * (255.0 / top)
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def as_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image of any Pillow mode to ``mode`` (RGB or L), with its EXIF orientation applied."""
    image = ImageOps.exif_transpose(image)
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.mode == "P" or "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert(mode)


def read_image(
    source: Source, in_chans: int = 3, *, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> Image.Image:
    """Read an image as RGB (``in_chans`` 3) or L (1), by the rules above.

    ``least_side`` (px) allows a smaller image of at least that size, which is several times faster for large JPEGs.
    ``info["original"]`` of the result holds the file's own (width, height) and mode.

    Raises:
        ImageError: the file is missing, unreadable, truncated, not an image, or too large.
    """
    mode = {1: "L", 3: "RGB"}[in_chans]
    if isinstance(source, Path) and os.path.exists(source) and not (source.is_dir() or is_regular(source)):
        raise ImageError(f"{_name(source)}: not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata; the size is checked below
            with Image.open(source, formats=readable_formats()) as image:
                if image.width * image.height > max_pixels:
                    raise ImageError(
                        f"{_name(source)}: {image.width}x{image.height} px is above the limit of {max_pixels:,} pixels"
                    )
                original = (image.size, image.mode)
                image.seek(0)
                if least_side is not None:
                    image.draft(mode, (least_side, least_side))
                image.load()
                found = as_eight_bits(image, mode)
                found.info["original"] = original
                return found
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{_name(source)}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{_name(source)}: a folder, not an image") from None
    except UnidentifiedImageError:
        if "HEIF" not in readable_formats() and _name(source).lower().endswith(HEIF_SUFFIXES):
            raise ImageError(f"{_name(source)}: {HEIF_NEEDED}") from None
        raise ImageError(f"{_name(source)}: not an image, or an unsupported format") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{_name(source)}: too many pixels; the limit is {max_pixels:,}") from None
    except Exception as error:  # Pillow's decoders raise many exception types on broken data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{_name(source)}: cannot be read: {reason}") from None


def shown_size(path: Path) -> tuple[int, int]:
    """Width and height after EXIF orientation, from the header. Raises ImageError."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{path}: {image.width}x{image.height} px is above the limit of {MAX_PIXELS:,} pixels")
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except Exception as error:
        raise ImageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _from_header(path: Path, read: Callable[[Image.Image], T]) -> T | None:
    """What ``read`` finds in an image whose pixels are not decoded; None if the header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=readable_formats()) as image:
                return read(image)
    except Exception:
        return None


def longest_side(path: Path) -> int:
    """In px, from the header; 0 if it cannot be read."""
    return _from_header(path, lambda image: max(image.size)) or 0


def is_grayscale(path: Path) -> bool | None:
    """Whether the header declares a single channel without a palette; None if it cannot be read."""
    return _from_header(path, lambda image: image.mode in ("1", "L", "F") or image.mode.startswith("I"))


def as_image(value: Image.Image | np.ndarray) -> Image.Image:
    """A PIL image, unchanged or from a uint8 array (H, W) or (H, W, 1, 3 or 4). Raises UserError for anything else."""
    if isinstance(value, Image.Image):
        return value
    if not isinstance(value, np.ndarray):
        raise UserError(f"an image must be a PIL image or a uint8 array (H, W, 3), not {type(value).__name__}")
    if value.dtype != np.uint8 or not (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))):
        shape = ", ".join(map(str, value.shape))
        raise UserError(f"an image array must be uint8 (H, W) or (H, W, 1, 3 or 4), not {value.dtype} ({shape})")
    return Image.fromarray(value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value)
