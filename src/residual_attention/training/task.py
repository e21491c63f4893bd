"""What a run learns, as the core sees it: classification here, detection elsewhere, one loop for both."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from torch import Tensor, nn

from ..checkpoints.card import Card
from .board import TensorBoard
from .config import RunConfig
from .distributed import Processes
from .machine import Machine
from .plan import Plan
from .runfolder import RunFolder


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


class Outcome(Protocol):
    """What the best weights of a finished run reach on each split.

    ``figures`` is the task's part of ``summary.json``, the same on every process; ``final_metrics`` are the few that
    TensorBoard compares runs by, such as ``test_error_pct``; ``lines`` go to the terminal. ``draw`` writes pictures
    into the folder and returns those that TensorBoard shows too, by tag.
    """

    @property
    def figures(self) -> Mapping[str, Any]: ...
    def final_metrics(self) -> dict[str, float]: ...
    def lines(self) -> list[str]: ...
    def draw(self, folder: RunFolder) -> dict[str, Path]: ...


class Task(Protocol):
    """Data, loss and measure, and what is reported and drawn of them.

    ``columns`` are its own of metrics.csv; ``epoch_figures`` and ``Validation.figures`` fill them.
    ``skipped`` are the indices of the unreadable training images met so far. ``files`` are written into the run's
    folder before the first step, name to text.
    """

    @property
    def card(self) -> Card: ...
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
    def files(self) -> dict[str, str]: ...
    def introduction(self, model: nn.Module) -> list[str]: ...
    def open_board(self, folder: Path, purge_step: int | None) -> TensorBoard: ...
    def evaluate(self, model: nn.Module) -> Outcome: ...


@dataclass(frozen=True)
class Prepared:
    """A run before its first step: the complete configuration, the network with its initial weights, the task.

    ``machine`` is the one that was given, or what the task makes of it.
    """

    plan: Plan[Any]
    machine: Machine
    model: nn.Module
    task: Task


Prepare = Callable[[Any, Machine, Processes, Card | None], Prepared]
"""(configuration, machine, processes, card of the checkpoint that is resumed or None) -> Prepared.

Raises UserError for what the user can fix; on a resume also when the data are no longer the same.
"""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A task as the core is given it.

    ``report`` writes a finished run's ``report.html`` from the files in its folder and returns its path;
    ``predict_command`` is what the last line of a run suggests.
    """

    config: type[RunConfig]
    prepare: Prepare
    report: Callable[[Path], Path]
    predict_command: str
