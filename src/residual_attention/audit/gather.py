"""The images of a split as the network sees them: small enough in number to be kept in memory."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..attention.batches import LabelledBatch, Say, boxed_batches, split_batches
from ..checkpoints import Classifier
from ..errors import UserError


@dataclass(frozen=True)
class Gathered:
    """``images`` (N, C, S, S) uint8, ``labels`` (N,), and each image's ``boxes`` in pixels of the input if known."""

    images: Tensor
    labels: Tensor
    boxes: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def gather(
    model: Classifier,
    data: str,
    *,
    data_dir: Path | None,
    split: str,
    boxes: Path | None,
    limit: int,
    say: Say,
) -> Gathered:
    """``limit`` images, evenly spaced over the split, or over those that ``boxes`` lists (DATA is then their folder).

    Raises UserError for unknown data, or boxes that do not match them.
    """
    batches = (
        split_batches(model, data, data_dir=data_dir, split=split, limit=limit, say=say)
        if boxes is None
        else boxed_batches(model, Path(data), boxes, limit=limit)
    )
    parts: list[LabelledBatch] = [
        LabelledBatch(model.preprocess.denormalize(batch.images).cpu(), batch.labels.cpu(), batch.boxes)
        for batch in batches
    ]
    if not parts:
        raise UserError(
            f"no images to audit in {data}" if boxes is None else f"preprocessing crops every box of {boxes} away"
        )
    return Gathered(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        None if boxes is None else [one for part in parts for one in part.boxes or ()],
    )
