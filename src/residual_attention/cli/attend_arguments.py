"""The arguments of ``ran attend``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ..attention.choices import READINGS
from ..errors import UserError
from ..own_files import data_folder_around
from ..plugins import chosen_from


@dataclass(frozen=True)
class AttendArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    images: tyro.conf.Positional[tuple[str, ...]] = ()
    """Image files, folders or globs, or the name of a data set or a list; with --measure, --intervene or --response
    one data set or folder of class folders."""
    out: Path = Path("attention")
    """Folder for figures and measurements."""
    reading: str = chosen_from(READINGS, "class")
    channel: int | None = None
    """Draw this channel of each mask instead of a reading."""
    before_after: bool = False
    """Also draw feature map, mask and masked feature map (the paper's figure 1)."""
    channels: tuple[int, ...] = ()
    """Channels for --before-after; by default the most active one of each module."""
    save_arrays: bool = False
    """Also write each image's masks as a NumPy .npz, module name to (C, h, w)."""
    format: Literal["png", "jpg", "webp"] = "png"
    """Picture format."""
    top_k: int = 5
    """Classes listed for each image."""
    measure: bool = False
    """Measure how well each reading, and other methods, show what the network uses; with --boxes, localisation too."""
    intervene: bool = False
    """Replace masks with constants, shuffled masks and those of other images, and measure the effect on DATA."""
    boxes: Path | None = None
    """JSON file that maps image paths relative to DATA to [x0, y0, x1, y1] in pixels, or to a list of such boxes."""
    limit: int | None = None
    """Number of images from a data set, evenly spaced over the split; by default 20 to draw, 200 for --measure, and all
    for --intervene."""
    split: Literal["test", "val", "train"] = "test"
    """Split of DATA to measure on."""
    data_dir: Path | None = None
    """Folder of a named data set."""
    response: bool = False
    """Draw the mean absolute response of each stage's output on DATA."""
    beside: tuple[str, ...] = ()
    """Further MODELs: with --measure, the same network trained with other seeds, so that intervals are over images and
    networks; with --response, models to compare with, such as one with naive learning."""
    score_cam: bool = False
    """Also measure Score-CAM, which runs the network once for each channel of the last feature map."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    engine: str = "auto"
    """Engine for .onnx files: auto | openvino | onnxruntime; auto takes the fastest one installed."""
    seed: int = 0
    """Seed of the random baseline and of the bootstrap."""
    json: bool = False
    """Print JSON."""
    debug: bool = False
    """Show tracebacks."""

    @property
    def figures(self) -> list[str]:
        """The flags that ask for figures instead of pictures."""
        return [f"--{name}" for name in ("measure", "intervene", "response") if getattr(self, name)]


def check_arguments(given: AttendArguments) -> None:
    if not given.images:
        raise UserError("no image or data set given; see `ran attend --help`")
    if len(given.figures) > 1:
        raise UserError(f"{' and '.join(given.figures)} cannot be combined; give one")
    if given.figures and len(given.images) != 1:
        raise UserError(f"{given.figures[0]} takes one data set or folder")
    if given.boxes and not given.measure:
        raise UserError("--boxes needs --measure")
    if given.beside and not (given.response or given.measure):
        raise UserError("--beside needs --measure or --response")
    if given.score_cam and not given.measure:
        raise UserError("--score-cam needs --measure")
    if given.channels and not given.before_after:
        raise UserError("--channels needs --before-after; --channel draws one channel of each mask")
    if given.top_k < 1 or (given.limit is not None and given.limit < 2):
        raise UserError("top-k must be at least 1 and limit at least 2")
    if (source := data_folder_around(given.out, map(Path, given.images))) is not None:
        raise UserError(f"{given.out} is inside the data folder {source}, which is never written to; choose an --out")
    if given.out.exists() and not given.out.is_dir():
        raise UserError(f"{given.out} is a file; --out must be a folder")
