"""TensorBoard for classifiers: the graph, the first batch, and the masks of fixed validation images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..attention.masks import attention_masks, masks_are_signed
from ..attention.overlay import as_picture, mask_overlay
from ..attention.statistics import mask_statistics
from ..data.loading import TrainBatch
from ..data.preprocess import Preprocess
from ..training.board import TensorBoard


class ClassifierBoard(TensorBoard):
    """Adds the graph, the first batch, and after each epoch the masks of the ``watched`` images (B, C, S, S)."""

    def __init__(
        self,
        folder: Path,
        preprocess: Preprocess,
        watched: Tensor | None,
        *,
        purge_step: int | None = None,
    ) -> None:
        super().__init__(folder, purge_step=purge_step)
        self.preprocess, self.watched = preprocess, watched

    def start(self, model: nn.Module) -> None:
        """Log the network's graph."""
        if self.watched is not None:
            self.graph(model, self.watched[:1])

    def batch(self, batch: TrainBatch, step: int) -> None:
        shown = torch.from_numpy(as_picture(self.preprocess.denormalize(batch.images[:32].cpu())))
        self.grid("training batch", shown.permute(0, 3, 1, 2), step)

    def pictures(self, model: nn.Module, step: int) -> None:
        """Log the masks, one row per module, and their statistics."""
        if self.watched is None:
            return
        masks, signed = attention_masks(model, self.watched), masks_are_signed(model)
        for name, found in mask_statistics(masks, signed=signed).items():
            for statistic, value in found.items():
                self.writer.add_scalar(f"masks/{name}/{statistic}", value, step)
        pictures = as_picture(self.preprocess.denormalize(self.watched.cpu()))
        self.grid("masks/images", torch.from_numpy(pictures).permute(0, 3, 1, 2), 0)
        for name, mask in masks.items():
            drawn = [
                torch.from_numpy(mask_overlay(picture, one.mean(dim=0).cpu(), signed=signed))
                for picture, one in zip(pictures, mask, strict=True)
            ]
            self.grid(f"masks/{name}", torch.stack(drawn).permute(0, 3, 1, 2), step)
