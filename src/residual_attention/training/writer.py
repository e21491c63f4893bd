"""What a run writes as it goes: checkpoints, metrics.csv, TensorBoard, and lines on the terminal."""

from dataclasses import dataclass, field
from typing import Any

from ..checkpoints.load import WEIGHTS_PREFIX
from ..data.loading import TrainBatch
from ..evaluation.evaluate import Evaluation
from .config import TrainConfig
from .distributed import Processes
from .loop import StepResult
from .progress import ProgressDisplay
from .runfolder import RunFolder
from .state import TrainState, pack

LOG_EVERY_STEPS = 20


@dataclass
class RunWriter:
    """The loop's listener. Only rank 0 writes; ``describe`` is the metadata that makes a checkpoint whole.

    ``board`` is the TensorBoard writer, None on other ranks.
    """

    folder: RunFolder
    config: TrainConfig
    processes: Processes
    display: ProgressDisplay
    describe: dict[str, Any]
    epochs: int
    board: Any = None
    watched: Any = None  # a few validation images whose masks TensorBoard follows, (B, C, S, S)
    skipped: set[int] = field(default_factory=set)
    _reported: int = 0

    def on_step(self, state: TrainState, result: StepResult, batch: TrainBatch) -> None:
        if not self.processes.is_main:
            return
        progress = state.progress
        self.display.step(
            epoch=progress.epoch + 1,
            epochs=self.epochs,
            step=progress.step,
            loss=progress.loss_sum / progress.seen,
            error_pct=100 * progress.wrong / progress.seen,
            images=result.seen * self.processes.world,
        )
        if self.board is None:
            return
        if progress.step_in_epoch == 1 and progress.epoch == 0:
            self.board.batch(batch.images, progress.step)
        if progress.step % LOG_EVERY_STEPS == 0:
            rate = progress.seen * self.processes.world / max(progress.epoch_time_s, 1e-9)
            self.board.step(
                progress.step,
                loss=result.loss_sum / result.seen,
                lr=state.schedule.lr,
                images_per_s=rate,
                grad_norm=result.grad_norm,
            )

    def on_epoch(self, state: TrainState, row: dict[str, Any], validation: Evaluation | None, is_best: bool) -> None:
        if not self.processes.is_main:
            return
        self.folder.write_metrics(state.progress.history)
        line = f"epoch {row['epoch']}/{self.epochs}"
        line += f"  train loss {row['train_loss']:.4f}  error {row['train_error_pct']:.2f} %"
        if validation is not None:
            line += f"   val loss {row['val_loss']:.4f}  error {row['val_error_pct']:.2f} %"
        self.display.say(f"{line}   {row['images_per_s']:.0f} images/s{'  (best)' if is_best else ''}")
        if len(self.skipped) > self._reported:
            self._reported = len(self.skipped)
            self.display.say(f"  {self._reported} unreadable training images left out so far")
        if self.board is not None:
            self.board.epoch(row)
            if self.watched is not None:
                self.board.masks(state.evaluated, self.watched, row["step"])
        if is_best:
            tensors = {WEIGHTS_PREFIX + k: v for k, v in state.evaluated.state_dict().items()}
            self.folder.save(self.folder.best, tensors, {**self.describe, "metrics": row})

    def save(self, state: TrainState) -> None:
        state.progress.unreadable = sorted(self.processes.union(self.skipped))
        if self.processes.is_main:
            tensors, rest = pack(state)
            metrics = state.progress.history[-1] if state.progress.history else {}
            self.folder.save(self.folder.last, tensors, {**self.describe, "metrics": metrics, "training": rest})
        self.processes.barrier()
