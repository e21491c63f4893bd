"""What a run learns, as the loop sees it: classification here, detection elsewhere, one loop for both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from torch import Tensor, nn

from .config import RunConfig

if TYPE_CHECKING:
    from .board import TensorBoard
    from .distributed import Processes
    from .loop import Job
    from .machine import Machine
    from .plan import Plan
    from .state import TrainState
    from .writer import RunWriter


class Batch(Protocol):
    """This process's part of one optimizer step's images."""

    def __len__(self) -> int: ...
    def parts(self, count: int) -> list[Self]: ...


class StepLoss(NamedTuple):
    """Of one forward pass: ``objective`` is differentiated, ``loss`` (a mean over the images) reported.

    ``tally`` holds what is added up over the epoch, such as the number of wrong answers.
    """

    objective: Tensor
    loss: Tensor
    tally: dict[str, Tensor]


@dataclass(frozen=True)
class Validation:
    """How good an epoch is. ``error_pct`` (lower is better) chooses the best one; ``figures`` go to metrics.csv.

    ``loss`` is what the schedule *plateau* follows, None where validation computes none.
    """

    error_pct: float
    loss: float | None
    figures: dict[str, float]


class Task(Protocol):
    """Data, loss, measure, and what is told and drawn of them.

    ``columns`` are its own of metrics.csv; ``epoch_figures`` and ``Validation.figures`` fill them.
    ``skipped`` are the indices of the unreadable training images met so far.
    """

    describe: dict[str, Any]  # the metadata that makes a checkpoint whole

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def skipped(self) -> set[int]: ...
    @property
    def steps_per_epoch(self) -> int: ...
    def batches(self, epoch: int, first_step: int) -> Iterator[Any]: ...
    def forward(self, model: nn.Module, batch: Any) -> Any: ...
    def loss(self, output: Any, batch: Any, model: nn.Module) -> StepLoss: ...
    def validate(self, model: nn.Module) -> Validation | None: ...
    def epoch_figures(self, loss: float, tally: dict[str, float], seen: float) -> dict[str, float]: ...
    def progress_text(self, tally: dict[str, float], seen: float) -> str: ...
    def epoch_text(self, row: dict[str, Any]) -> str: ...
    def files(self) -> dict[str, str]: ...  # written into the run's folder before the first step
    def introduction(self, state: "TrainState") -> list[str]: ...
    def open_board(self, folder: Path, purge_step: int | None) -> "TensorBoard": ...
    def finish(self, job: "Job", state: "TrainState", writer: "RunWriter") -> dict[str, Any]: ...


@dataclass
class Prepared:
    """A run before its first step: the complete configuration, the network with its initial weights, the task.

    ``machine`` is the one that was given, or what the task makes of it.
    """

    plan: "Plan[Any]"
    machine: "Machine"
    model: nn.Module
    task: Task


Prepare = Callable[[RunConfig, "Machine", "Processes", dict[str, Any] | None], Prepared]
"""(configuration, machine, processes, metadata of the checkpoint that is resumed or None) -> Prepared.

Raises UserError for what the user can mend; on a resume also when the data are no longer the same.
"""
