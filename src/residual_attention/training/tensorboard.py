"""What a run shows in TensorBoard: scalars, graph, batches, confusion matrix, masks as they develop."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..attention.masks import attention_masks
from ..attention.overlay import as_picture, mask_overlay
from ..attention.statistics import mask_statistics
from ..data.loading import TrainBatch
from ..data.preprocess import Preprocess


class TensorBoard:
    """A writer for one run's folder. On a resume, ``purge_step`` hides what came after that step.

    A task's own board says what a batch and the pictures after an epoch are.
    """

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=purge_step)

    def start(self, model: nn.Module) -> None:
        """Before the first step of a new run."""

    def batch(self, batch: Any, step: int) -> None:
        """The first batch, as the network gets it."""

    def pictures(self, model: nn.Module, step: int) -> None:
        """After an epoch."""

    def grid(self, tag: str, pictures: Tensor, step: int, columns: int = 8) -> None:
        """uint8 (B, 3, H, W) as one grid, small ones enlarged."""
        from torchvision.utils import make_grid

        factor = max(1, 96 // pictures.shape[-1])
        pictures = pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        self.writer.add_image(tag, make_grid(pictures, nrow=columns, padding=2, pad_value=255), step)

    def picture(self, tag: str, png: Path, step: int) -> None:
        """A picture as drawn for the report."""
        import numpy as np

        with Image.open(png) as image:
            self.writer.add_image(tag, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def step(self, step: int, **scalars: float) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, row: dict[str, Any]) -> None:
        """One row of metrics.csv; the epoch is the abscissa of error and loss."""
        for name, value in row.items():
            if value is not None and name not in ("epoch", "step"):
                self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])
        self.writer.flush()

    def finish(self, config: dict[str, Any], metrics: dict[str, float], step: int) -> None:
        """Hyper-parameters with the ``final/`` metrics, in this same folder rather than in one of their own."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items() if v is not None
        }
        writer = self.writer._get_file_writer()
        for event in hparams(plain, metrics):
            writer.add_summary(event)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class ClassifierBoard(TensorBoard):
    """Also the graph, the first batch, and the masks of fixed validation images (B, C, S, S) as they develop."""

    def __init__(
        self,
        folder: Path,
        preprocess: Preprocess,
        watched: Tensor | None,
        *,
        purge_step: int | None = None,
        signed: bool = False,
    ) -> None:
        super().__init__(folder, purge_step=purge_step)
        self.preprocess, self.watched, self.signed = preprocess, watched, signed

    def start(self, model: nn.Module) -> None:
        """The network's graph; nothing when tracing does not work for it."""
        if self.watched is None:
            return
        training = model.training
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns about sizes, which are right for these images
            try:
                self.writer.add_graph(model.eval(), self.watched[:1])
            except Exception as error:
                logging.getLogger(__name__).info("no graph: %s", error)
        model.train(training)

    def batch(self, batch: TrainBatch, step: int) -> None:
        shown = torch.from_numpy(as_picture(self.preprocess.denormalize(batch.images[:32].cpu())))
        self.grid("training batch", shown.permute(0, 3, 1, 2), step)

    def pictures(self, model: nn.Module, step: int) -> None:
        """The masks, one row of them a module, and their statistics."""
        if self.watched is None:
            return
        masks = attention_masks(model, self.watched)
        for name, found in mask_statistics(masks, signed=self.signed).items():
            for statistic, value in found.items():
                self.writer.add_scalar(f"masks/{name}/{statistic}", value, step)
        pictures = as_picture(self.preprocess.denormalize(self.watched.cpu()))
        self.grid("masks/images", torch.from_numpy(pictures).permute(0, 3, 1, 2), 0)
        for name, mask in masks.items():
            drawn = [
                torch.from_numpy(mask_overlay(picture, one.mean(dim=0).cpu(), signed=self.signed))
                for picture, one in zip(pictures, mask, strict=True)
            ]
            self.grid(f"masks/{name}", torch.stack(drawn).permute(0, 3, 1, 2), step)
