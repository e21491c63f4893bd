"""TensorBoard for a detector's run: the usual scalars, and pictures with boxes drawn on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..boxes.annotations import Pictures
from ..training.board import TensorBoard
from .figures import draw_boxes, reduced
from .loading import DetectionBatch
from .measures import Detections

SHOWN_SCORE = 0.3


class DetectionBoard(TensorBoard):
    """The first batch with its boxes, and the predictions on the ``watched`` validation images over time."""

    def __init__(
        self,
        folder: Path,
        classes: tuple[str, ...],
        watched: Pictures | None,
        detections: Callable[[nn.Module], list[Detections]] | None,
        *,
        purge_step: int | None = None,
    ) -> None:
        super().__init__(folder, purge_step=purge_step)
        self.classes, self.watched, self.detections = classes, watched, detections

    def _add(self, tag: str, picture: Image.Image, step: int) -> None:
        self.writer.add_image(tag, np.asarray(picture), step, dataformats="HWC")

    def batch(self, batch: DetectionBatch, step: int) -> None:
        for i, (image, target) in enumerate(list(zip(batch.images, batch.targets, strict=True))[:4]):
            picture = Image.fromarray((image.cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
            labels = (target["labels"] - 1).tolist()
            boxes = [(label, "", tuple(box)) for label, box in zip(labels, target["boxes"].tolist(), strict=True)]
            self._add(f"training batch/{i}", draw_boxes(picture, boxes), step)

    def pictures(self, model: nn.Module, step: int) -> None:
        if self.watched is None or self.detections is None:
            return
        for i, found in enumerate(self.detections(model)):
            picture, factor = reduced(self.watched.read(i))
            boxes: list[Any] = [
                (label, f"{self.classes[label]} {score:.2f}", tuple(box))
                for box, score, label in zip(
                    (found.boxes * factor).tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
                )
                if score >= SHOWN_SCORE
            ]
            self._add(f"predicted boxes/{i}", draw_boxes(picture, boxes), step)
