"""What a run writes during training: checkpoints, metrics.csv, TensorBoard, and lines on the terminal."""

from dataclasses import dataclass, field, replace
from typing import Any

from ..checkpoints.load import WEIGHTS_PREFIX
from .board import TensorBoard
from .config import RunConfig
from .distributed import Processes
from .pictures import Attempts
from .progress import ProgressDisplay, rate_text
from .runfolder import RunFolder
from .state import TrainState, pack
from .step import StepResult
from .task import Task
from .tracking import Tracker

LOG_EVERY_STEPS = 20
WATCHED_STEPS = 10  # whose mean loss is compared with that of the first as many
EXPLODED = 10.0  # times that


@dataclass
class RunWriter:
    """The loop's listener. Only rank 0 writes; ``board`` is None on other ranks."""

    folder: RunFolder
    config: RunConfig
    processes: Processes
    display: ProgressDisplay
    task: Task
    epochs: int
    total_steps: int
    board: TensorBoard | None = None
    tracker: Tracker | None = None
    _reported: int = 0
    _losses: list[float] = field(default_factory=list)
    _exploded: bool = False
    _keeping_failed: bool = False

    def on_step(self, state: TrainState, result: StepResult, batch: Any) -> None:
        if not self.processes.is_main:
            return
        progress = state.progress
        self.display.step(
            epoch=progress.epoch + 1,
            epochs=self.epochs,
            step=result.step,
            loss=progress.loss_sum / progress.seen,
            figures=self.task.progress_text(progress.tally, progress.seen),
            images=result.seen * self.processes.world,
        )
        self._watch_loss(result.loss_sum / result.seen)
        if self.board is not None and result.step == 1:
            self.board.batch(batch, result.step)
        if result.step % LOG_EVERY_STEPS == 0:
            self._log_step(state, result)

    def _log_step(self, state: TrainState, result: StepResult) -> None:
        progress = state.progress
        scalars = {
            "loss": result.loss_sum / result.seen,
            "lr": result.lr,
            "images_per_s": progress.seen * self.processes.world / max(progress.epoch_time_s, 1e-9),
            "grad_norm": result.grad_norm,
        }
        if self.board is not None:
            self.board.step(result.step, **scalars)
        if self.tracker is not None:
            self.tracker.log({f"step/{name}": value for name, value in scalars.items()}, result.step)

    def watch_gradients(self, state: TrainState) -> None:
        """Log them in the last step of each epoch, between the update and the moment that they are dropped."""

        def updated(*_: Any) -> None:
            step, in_epoch = state.progress.step + 1, state.progress.step_in_epoch + 1
            if self.board is not None and (in_epoch == self.task.steps_per_epoch or step == self.total_steps):
                self.board.gradients(state.model, step)

        state.optimizer.register_step_post_hook(updated)

    def _watch_loss(self, loss: float) -> None:
        """Say once, as soon as it shows, that the loss explodes, and what to do."""
        self._losses.append(loss)
        if len(self._losses) == 2 * WATCHED_STEPS and not self._exploded:
            before = sum(self._losses[:WATCHED_STEPS]) / WATCHED_STEPS
            now = sum(self._losses[WATCHED_STEPS:]) / WATCHED_STEPS
            self._losses = [before] * WATCHED_STEPS
            if now > EXPLODED * max(before, 1.0):
                self._exploded = True
                self.display.say(
                    f"warning: the loss has risen from {before:.3g} to {now:.3g}; stop (Ctrl-C) and start again with a "
                    f"lower --lr than {self.config.lr:g}, or with --clip-grad 1"
                )

    def on_epoch(self, state: TrainState, row: dict[str, Any], is_best: bool) -> None:
        if not self.processes.is_main:
            return
        self.folder.write_metrics(state.progress.history, self.task.columns)
        line = f"epoch {row['epoch']}/{self.epochs}  {self.task.epoch_text(row)}"
        self.display.say(f"{line}   {rate_text(row['images_per_s'])} images/s{'  (best)' if is_best else ''}")
        if len(self.task.skipped) > self._reported:
            self._reported = len(self.task.skipped)
            self.display.say(f"  {self._reported} unreadable training images skipped so far")
        if self.board is not None:
            self.board.epoch(row)
            self.board.weights(state.evaluated, row["step"])
            self.board.pictures(state.evaluated, row["step"])
        self._keep(state, row["epoch"])
        if self.tracker is not None:
            scalars = {f"epoch/{k}": float(v) for k, v in row.items() if v is not None and k not in ("epoch", "step")}
            self.tracker.log(scalars, row["step"])
        if is_best:
            tensors = {WEIGHTS_PREFIX + k: v for k, v in state.evaluated.state_dict().items()}
            self.folder.save(self.folder.best, tensors, replace(self.task.card, metrics=row))

    def _keep(self, state: TrainState, epoch: int) -> None:
        """What the task keeps for its report must not end the run; say once that it fails."""
        attempts = Attempts()
        with attempts.attempt("what the report shows of this epoch"):
            self.task.keep(state.evaluated, epoch, self.folder)
        for name, why in attempts.failed.items():
            if not self._keeping_failed:
                self.display.say(f"warning: {name} could not be kept ({why})")
            self._keeping_failed = True

    def save(self, state: TrainState) -> None:
        """Write ``last``. The sums of an epoch that is not over are those of all processes."""
        progress = state.progress
        progress.unreadable = sorted(self.processes.union(self.task.skipped))
        names = sorted(progress.tally)
        own = [progress.loss_sum, float(progress.seen), *(progress.tally[name] for name in names)]
        loss_sum, seen, *tally = self.processes.total(own)
        if self.processes.is_main:
            tensors, rest = pack(state)
            sums = {"loss_sum": loss_sum, "seen": int(seen), "tally": dict(zip(names, tally, strict=True))}
            rest["progress"] |= sums
            metrics = state.progress.history[-1] if state.progress.history else {}
            self.folder.save(self.folder.last, tensors, replace(self.task.card, metrics=metrics, training=rest))
        self.processes.barrier()
