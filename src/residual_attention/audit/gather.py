"""The images of a split as the network sees them: few enough to be kept in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..attention.batches import boxed_batches
from ..checkpoints import Classifier
from ..checkpoints.own_data import known_data, split_for
from ..data.samples import FileSamples, TensorSamples, decode
from ..data.splits import evenly_spaced
from ..errors import UserError


@dataclass(frozen=True)
class Gathered:
    """``images`` (N, C, S, S) uint8, ``labels`` (N,), and each image's ``boxes`` in pixels of the input if known.

    ``names``: files relative to DATA where they are known, otherwise positions.
    """

    images: Tensor
    labels: Tensor
    boxes: list[Tensor] | None = None
    names: Sequence[str] = ()
    notices: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, i: int) -> str:
        return self.names[i] if self.names else f"image {i}"


def gather(
    model: Classifier, data: str, *, data_dir: Path | None, split: str, boxes: Path | None, limit: int
) -> Gathered:
    """``limit`` images, evenly spaced over the split, or over those that ``boxes`` lists (DATA is then their folder).

    Raises:
        UserError: unknown data, or boxes that do not match them.
        ImageError: an image is unreadable.
    """
    if boxes is not None:
        return _boxed(model, Path(data), boxes, limit)
    _, samples, notices = split_for(model, data, split=split, data_dir=data_dir)
    positions = evenly_spaced(len(samples), limit)
    chosen = samples.subset(positions)
    if isinstance(chosen, FileSamples):
        names = [str(path.relative_to(data) if path.is_relative_to(data) else path.name) for path in chosen.paths]
    else:
        names = [f"{split} {position}" for position in positions.tolist()]
    kept = chosen if isinstance(chosen, TensorSamples) else decode(chosen, model.preprocess, skip_bad=False)[0]
    shown = [notice.replace(data, Path(data).name) if Path(data).is_absolute() else notice for notice in notices]
    if split == "train" and known_data(model, data):
        shown.append("the model was trained on these images; on new ones its evidence may lie elsewhere")
    return Gathered(kept.images, kept.labels, names=names, notices=shown)


def _boxed(model: Classifier, folder: Path, boxes: Path, limit: int) -> Gathered:
    parts = list(boxed_batches(model, folder, boxes, limit=limit))
    if not parts:
        raise UserError(f"nothing to audit: preprocessing crops every box of {boxes} away")
    return Gathered(
        torch.cat([model.preprocess.denormalize(part.images).cpu() for part in parts]),
        torch.cat([part.labels.cpu() for part in parts]),
        [one for part in parts for one in part.boxes or ()],
    )
