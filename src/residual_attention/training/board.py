"""TensorBoard output common to all runs; each task extends it."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import WriteError


class _Expendable:
    """A SummaryWriter whose failure does not end the run: one warning, and no more events."""

    def __init__(self, writer: Any, folder: Path) -> None:
        self._writer, self._folder, self._lost = writer, folder, False

    def __getattr__(self, name: str) -> Any:
        return self._guarded(getattr(self._writer, name))

    def add_graph_def(self, content: bytes) -> None:
        """Log a serialised ``GraphDef``."""
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._guarded(self._writer.file_writer.add_event)(Event(graph_def=content))

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._lost:
                return None
            try:
                return method(*arguments, **options)
            except OSError as error:  # a full disk, a folder that was deleted
                self._lost = True
                reason = error.strerror or error
                print(f"ran: warning: {self._folder} cannot be written ({reason}); continuing without", file=sys.stderr)
                return None

        return call


MOST_VALUES = 50_000  # in a histogram; evenly spaced ones of a larger part


def _part(name: str) -> str:
    """``stages.0.1`` of ``stages.0.1.trunk.0.conv.weight``; ``head`` of ``head.fc.weight``."""
    words = name.split(".")
    numbers = next((i for i, word in enumerate(words[1:], 1) if not word.isdigit()), len(words) - 1)
    return ".".join(words[: max(1, min(numbers, 3))])


class TensorBoard:
    """A writer for one run's folder. On resume, ``purge_step`` hides events after that step.

    Each task's subclass defines how it logs a batch, and the pictures after an epoch.
    """

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        from torch.utils.tensorboard import SummaryWriter

        try:
            writer = SummaryWriter(str(folder), purge_step=purge_step)
        except OSError as error:
            raise WriteError(
                f"cannot write {folder}: {error.strerror or error}; move it away, or choose another --out"
            ) from error
        self._expendable = _Expendable(writer, folder)
        self.writer: SummaryWriter = self._expendable  # type: ignore[assignment]

    def start(self, model: nn.Module) -> None:
        """Called before the first step of a new run."""

    def graph(self, model: nn.Module, images: Tensor) -> None:
        """Log the graph of ``model`` in eval mode, unless torch.fx cannot trace it."""
        from .graph import graph_of

        training = model.training
        try:
            graph = graph_of(model.eval(), images)
        except Exception as error:
            logging.getLogger(__name__).info("no graph: %s", error)
        else:
            self._expendable.add_graph_def(graph.SerializeToString())
        model.train(training)

    def batch(self, batch: Any, step: int) -> None:
        """Called with the first batch, as the network receives it."""

    def pictures(self, model: nn.Module, step: int) -> None:
        """Called after each epoch."""

    def weights(self, model: nn.Module, step: int) -> None:
        """Log a histogram of each part's weights; called after each epoch."""
        self._histograms("weights", model, lambda parameter: parameter.detach(), step)

    def gradients(self, model: nn.Module, step: int) -> None:
        """Log a histogram of each part's gradients; called in the last step of each epoch."""
        self._histograms("gradients", model, lambda parameter: parameter.grad, step)

    def _histograms(
        self, tag: str, model: nn.Module, values_of: Callable[[nn.Parameter], Tensor | None], step: int
    ) -> None:
        """One histogram a part, such as ``stages.0.1``, of the matrices and kernels in it: BN has its own scale."""
        parts: dict[str, list[Tensor]] = {}
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and (values := values_of(parameter)) is not None:
                parts.setdefault(_part(name), []).append(values.detach().flatten())
        for name, found in parts.items():
            values = torch.cat(found)
            few = values[:: max(1, len(values) // MOST_VALUES)].float().cpu().numpy()
            if np.isfinite(few).all():
                self.writer.add_histogram(f"{tag}/{name}", few, step)

    def grid(self, tag: str, pictures: Tensor, step: int, columns: int = 8) -> None:
        """Log uint8 pictures (B, 3, H, W) as one grid; small ones are enlarged."""
        from torchvision.utils import make_grid

        factor = max(1, 96 // pictures.shape[-1])
        pictures = pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        self.writer.add_image(tag, make_grid(pictures, nrow=columns, padding=2, pad_value=255), step)

    def picture(self, tag: str, png: Path, step: int) -> None:
        """Log a picture drawn for the report."""
        with Image.open(png) as image:
            self.writer.add_image(tag, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def step(self, step: int, **scalars: float) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, row: dict[str, Any]) -> None:
        """Log one row of metrics.csv against the epoch."""
        for name, value in row.items():
            if value is not None and name not in ("epoch", "step"):
                self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])
        self.writer.flush()

    def hyperparameters(self, config: dict[str, Any], metrics: dict[str, float], step: int) -> None:
        """Log the hyperparameters with the ``final/`` metrics, in this folder rather than a separate one."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items() if v is not None
        }
        if (writer := self.writer._get_file_writer()) is not None:
            for event in hparams(plain, metrics):
                writer.add_summary(event)
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Flush the scalars since the last epoch, also after a stop or an error."""
        self.writer.close()
