"""The images that maps are measured on, as preprocessed batches on the model's device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..boxes.by_image import read_boxes
from ..checkpoints import Classifier
from ..checkpoints.own_data import split_for
from ..data.images import read_image
from ..data.loading import evaluation_batches
from ..data.regions import Box
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..errors import UserError
from .geometry import box_on_input
from .readings import images_at_once

Say = Callable[[str], None]


def silent(_line: str) -> None:
    """Discard the line."""


@dataclass(frozen=True)
class LabelledBatch:
    """``images`` (B, C, S, S), ``labels`` (B,), and each image's ``boxes`` (n, 4) if they are known.

    Boxes are (x0, y0, x1, y1) in pixels of the network's square input.
    """

    images: Tensor
    labels: Tensor
    boxes: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)


def check_one_class(model: Classifier, flag: str) -> None:
    """Raise UserError for a multi-label classifier, whose answer is not one class that a measurement could explain."""
    if model.card.confidence.several:
        raise UserError(f"{flag} needs a model with one class per image; this model is multi-label")


def split_batches(
    model: Classifier,
    data: str,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    limit: int | None = 500,
    say: Say = silent,
) -> Iterator[LabelledBatch]:
    """Yield ``limit`` images (None: all), evenly spaced over a split of a data set; ``say`` gets notices.

    ``labels`` are (B,), or (B, K) of a multi-label classifier.

    Raises UserError for unknown data or an unknown split.
    """
    _, samples, notices = split_for(model, data, split=split, data_dir=data_dir)
    for notice in notices:
        say(f"note: {notice}")
    if limit is not None:
        samples = samples.subset(evenly_spaced(len(samples), limit))
    at_once = images_at_once(model.preprocess.image_size)
    for batch in evaluation_batches(samples, model.preprocess, batch_size=at_once, device=device_of(model)):
        yield LabelledBatch(batch.images, batch.labels)


def boxed_batches(model: Classifier, folder: Path, boxes: Path, *, limit: int = 500) -> Iterator[LabelledBatch]:
    """Yield ``limit`` images in class folders, evenly spaced over those that ``boxes`` lists (`read_boxes`).

    Images whose boxes are all cropped away are left out. Raises UserError if the boxes do not match the folder.
    """
    if not folder.is_dir():
        raise UserError(f"with --boxes, DATA must be a folder ({folder} not found)")
    entries = sorted(read_boxes(boxes).items())
    if not entries:
        raise UserError(f"{boxes} contains no boxes")
    chosen = [entries[i] for i in evenly_spaced(len(entries), limit).tolist()]
    read = (_read_boxed(model, folder, boxes, name, given) for name, given in chosen)
    visible = (one for one in read if one is not None)
    device = device_of(model)
    while part := list(islice(visible, images_at_once(model.preprocess.image_size))):
        images, labels, squares = zip(*part, strict=True)
        yield LabelledBatch(torch.stack(images).to(device), torch.tensor(labels, device=device), list(squares))


def _read_boxed(
    model: Classifier, folder: Path, boxes: Path, name: str, given: Sequence[Box]
) -> tuple[Tensor, int, Tensor] | None:
    """The preprocessed image, its label and its visible boxes; None if no box is visible."""
    label = Path(name).parent.name
    if label not in model.classes:
        raise UserError(f"{boxes}: the folder of {name} is not a class of this model")
    image = read_image(folder / name, model.preprocess.in_chans)
    on_input = [box_on_input(box, model.preprocess, *image.size) for box in given]
    visible = [box for box in on_input if box is not None]
    return (model.preprocess(image), model.classes.index(label), torch.tensor(visible)) if visible else None
