"""Pictures of predictions: the boxes on each image, and the backbone's masks beneath them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..attention.geometry import upsample
from ..attention.masks import masks_are_signed
from ..attention.overlay import heat
from ..data.images import read_image
from ..devices import device_of
from ..errors import UserError
from ..own_files import OwnFiles
from .detectors import BaseDetector, Detector
from .figures import draw_boxes
from .loading import as_float, at_network_size
from .predict import Found
from .results import backbone_masks


def _free(folder: Path, stem: str, taken: set[Path]) -> Path:
    """A name that this call has not used and that no file of others has."""
    path, number = folder / f"{stem}.png", 2
    while path in taken:
        path, number = folder / f"{stem}-{number}.png", number + 1
    taken.add(path)
    return path


def draw_found(model: BaseDetector, found: Sequence[Found], folder: Path, *, masks: bool = False) -> list[Path]:
    """``<name>.png`` with its boxes for each image; with ``masks`` also ``<name>-<module>.png``. Returns the files.

    Other files in the folder stay as they are.

    Raises UserError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the folder {folder}: {error.strerror}") from None
    own = OwnFiles(folder)
    number = {name: i for i, name in enumerate(model.classes)}
    written: list[Path] = []
    taken = {path for path in folder.iterdir() if path.name not in own.names}
    for one in found:
        image = read_image(Path(one.path), 3)
        boxes: list[Any] = [(number[name], f"{name} {score:.2f}", box) for name, score, box in one.boxes]
        pictures = {Path(one.path).stem: image}
        if masks and isinstance(model, Detector):
            tensor = as_float(at_network_size(image, model.image_size, model.max_size), device_of(model))
            signed = masks_are_signed(model.pyramid.body)
            for name, mask in backbone_masks(model, tensor).items():
                values = heat(np.asarray(image), upsample(mask, image.height, image.width), signed=signed)
                pictures[f"{Path(one.path).stem}-{name}"] = Image.fromarray(values)
        for stem, picture in pictures.items():
            path = _free(folder, stem, taken)
            draw_boxes(picture, boxes).save(own.take(path.name))
            written.append(path)
    return written
