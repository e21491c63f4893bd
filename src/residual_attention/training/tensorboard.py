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
from ..data.preprocess import Preprocess


class TensorBoard:
    """A writer for one run's folder. On a resume, ``purge_step`` hides what came after that step."""

    def __init__(
        self, folder: Path, preprocess: Preprocess, *, purge_step: int | None = None, signed: bool = False
    ) -> None:
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        from torch.utils.tensorboard import SummaryWriter

        self.preprocess, self.signed = preprocess, signed
        self.writer = SummaryWriter(str(folder), purge_step=purge_step)

    def _images(self, tag: str, pictures: Tensor, step: int) -> None:
        """uint8 (B, 3, H, W) as one grid, small ones enlarged."""
        from torchvision.utils import make_grid

        factor = max(1, 96 // pictures.shape[-1])
        pictures = pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        self.writer.add_image(tag, make_grid(pictures, nrow=8, padding=2, pad_value=255), step)

    def graph(self, model: nn.Module, images: Tensor) -> None:
        """The network's graph; nothing when tracing does not work for it."""
        training = model.training
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns about sizes, which are right for these images
            try:
                self.writer.add_graph(model.eval(), images[:1])
            except Exception as error:
                logging.getLogger(__name__).info("no graph: %s", error)
        model.train(training)

    def batch(self, images: Tensor, step: int) -> None:
        """The first images of a training batch, as the network gets them."""
        shown = torch.from_numpy(as_picture(self.preprocess.denormalize(images[:32].cpu())))
        self._images("training batch", shown.permute(0, 3, 1, 2), step)

    def step(self, step: int, **scalars: float) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, row: dict[str, Any]) -> None:
        """One row of metrics.csv; the epoch is the abscissa of error and loss."""
        for name, value in row.items():
            if value is not None and name not in ("epoch", "step"):
                self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])
        self.writer.flush()

    def masks(self, model: nn.Module, images: Tensor, step: int) -> None:
        """Masks of fixed validation images (B, C, H, W), one row of them a module, and their statistics."""
        masks = attention_masks(model, images)
        for name, found in mask_statistics(masks, signed=self.signed).items():
            for statistic, value in found.items():
                self.writer.add_scalar(f"masks/{name}/{statistic}", value, step)
        pictures = as_picture(self.preprocess.denormalize(images.cpu()))
        self._images("masks/images", torch.from_numpy(pictures).permute(0, 3, 1, 2), 0)
        for name, mask in masks.items():
            drawn = [
                torch.from_numpy(mask_overlay(picture, one.mean(dim=0).cpu(), signed=self.signed))
                for picture, one in zip(pictures, mask, strict=True)
            ]
            self._images(f"masks/{name}", torch.stack(drawn).permute(0, 3, 1, 2), step)

    def confusion(self, png: Path, step: int) -> None:
        """The confusion matrix as drawn for the report."""
        import numpy as np

        with Image.open(png) as image:
            self.writer.add_image("confusion matrix", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def finish(self, config: dict[str, Any], summary: dict[str, Any]) -> None:
        """Hyper-parameters with the final metrics, in this same folder rather than in one of their own."""
        from torch.utils.tensorboard.summary import hparams

        metrics = {
            f"final/{split}_error_pct": float(summary[split]["error_pct"])
            for split in ("train", "val", "test")
            if summary.get(split)
        }
        plain = {
            k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items() if v is not None
        }
        writer = self.writer._get_file_writer()
        for event in hparams(plain, metrics):
            writer.add_summary(event)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, summary["steps"])

    def close(self) -> None:
        self.writer.close()
