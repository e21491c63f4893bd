"""What the images of a data set are like, from the headers of a few of them: their size and channels."""

from collections.abc import Sequence
from pathlib import Path

from .images import is_grayscale, longest_side
from .samples import IN_MEMORY_PX

MAX_SAMPLED = 200  # image headers that are read


def _sampled(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[:: max(1, len(paths) // MAX_SAMPLED)][:MAX_SAMPLED]


def suggested_image_size(paths: Sequence[Path], notices: list[str]) -> int:
    """The side of the input in pixels: 224; 32 or 64, with a notice, if every sampled image is small."""
    longest = max((longest_side(path) for path in _sampled(paths)), default=0)
    if not 0 < longest <= IN_MEMORY_PX:
        return 224
    size = 32 if longest <= 40 else 64
    notices.append(f"images are at most {longest} px, so the input size is {size} px (--image-size overrides it)")
    return size


def count_channels(paths: Sequence[Path]) -> int:
    """1 if every sampled image is grayscale, else 3."""
    found = {is_grayscale(path) for path in _sampled(paths)}
    return 1 if found - {None} == {True} else 3
