"""The interface between the core and a task: one loop trains classifiers and detectors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor, nn

from ..checkpoints.card import Card
from ..data.order import steps_per_epoch
from .board import TensorBoard
from .config import RunConfig
from .distributed import Processes
from .machine import Machine
from .pictures import Attempts
from .plan import Plan
from .runfolder import RunFolder


class Batch(Protocol):
    """This process's part of one optimizer step's images."""

    def __len__(self) -> int: ...
    def parts(self, count: int) -> list[Self]: ...


class StepLoss(NamedTuple):
    """The loss of one forward pass: ``objective`` is differentiated, ``loss`` (a mean over the images) is reported.

    ``tally`` holds values that are summed over the epoch, such as the number of wrong predictions.
    """

    objective: Tensor
    loss: Tensor
    tally: dict[str, Tensor]


@dataclass(frozen=True)
class Validation:
    """An epoch's validation result. ``error_pct`` (lower is better) selects the best; ``figures`` go to metrics.csv.

    The *plateau* schedule follows ``loss``, which is None if validation computes none.
    """

    error_pct: float
    loss: float | None
    figures: dict[str, float]


class Outcome(ABC):
    """What the best weights of a finished run reach on each split; ``held_out`` maps *val* and *test* to their results.

    ``figures`` is the task's part of ``summary.json``, the same on every process; `final_metrics` are the few that
    TensorBoard compares runs by, such as ``test_error_pct``; `lines` go to the terminal. `draw` writes pictures
    into the folder, each in an attempt of its own, and returns those that TensorBoard shows too, by tag.
    """

    held_out: Mapping[str, Any]

    @cached_property
    def figures(self) -> Mapping[str, Any]:
        return self.compute_figures()

    @property
    def shown(self) -> str | None:
        """The split that the pictures are of: test, validation if there is no test, None without either."""
        return next((name for name in ("test", "val") if name in self.held_out), None)

    def completed(self, card: Card) -> Card:
        """The card of the best weights, with what only the finished network tells."""
        return card

    @abstractmethod
    def compute_figures(self) -> dict[str, Any]: ...
    @abstractmethod
    def final_metrics(self) -> dict[str, float]: ...
    @abstractmethod
    def lines(self) -> list[str]: ...
    @abstractmethod
    def draw(self, folder: RunFolder, attempts: Attempts) -> dict[str, Path]: ...


class Task(Protocol):
    """A task's data, loss, metrics and reporting.

    ``columns`` are its columns of metrics.csv; ``epoch_figures`` and ``Validation.figures`` fill them.
    ``skipped`` are the indices of the unreadable training images found so far. ``files`` (name to text) are written
    into the run folder before the first step. ``keep`` is called on the main process after each epoch, counted from 1,
    with the weights that were validated: what it keeps in the run folder must not change the training.

    A time budget is planned from ``evaluated_images`` (at the end of each epoch, and at the end of the run),
    ``steps_for`` (steps per epoch of that many passes over the images) and ``image_side`` (side of the training images
    in px at a progress in [0, 1)).
    """

    @property
    def card(self) -> Card: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def skipped(self) -> set[int]: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def evaluated_images(self) -> tuple[int, int]: ...
    def steps_for(self, repeats: int) -> int: ...
    def image_side(self, progress: float) -> int: ...
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
    def keep(self, model: nn.Module, epoch: int, folder: RunFolder) -> None: ...
    def evaluate(self, model: nn.Module) -> Outcome: ...


class Batches(Protocol):
    """A training split; ``skipped`` are the indices of its unreadable images."""

    @property
    def samples(self) -> Sized: ...
    @property
    def skipped(self) -> set[int]: ...
    @property
    def steps_per_epoch(self) -> int: ...


class Splits(Protocol):
    """A data set; a split that it lacks is None."""

    @property
    def val(self) -> Sized | None: ...
    @property
    def test(self) -> Sized | None: ...


class ImageTask:
    """What the tasks over images share: how many images and steps there are."""

    config: RunConfig
    dataset: Splits
    data: Batches

    @property
    def skipped(self) -> set[int]:
        return self.data.skipped

    @property
    def steps_per_epoch(self) -> int:
        return self.data.steps_per_epoch

    @property
    def evaluated_images(self) -> tuple[int, int]:
        val, test = (0 if split is None else len(split) for split in (self.dataset.val, self.dataset.test))
        return val, val + test

    def steps_for(self, repeats: int) -> int:
        return steps_per_epoch(repeats * len(self.data.samples), self.config.batch_size)


SplitT = TypeVar("SplitT", bound=Sized)


def held_out(val: SplitT | None, test: SplitT | None) -> dict[str, SplitT]:
    """The splits that the best weights are evaluated on: those that have images."""
    return {name: split for name, split in (("val", val), ("test", test)) if split is not None and len(split)}


@dataclass(frozen=True)
class Prepared:
    """A run before its first step: the complete configuration, the network with its initial weights, the task.

    ``machine`` is the given one, possibly adjusted by the task. ``again`` prepares the run anew with another
    configuration, on the data and the initial weights already read. ``notes`` are printed before training.
    """

    plan: Plan[Any]
    machine: Machine
    model: nn.Module
    task: Task
    again: Callable[[Any], "Prepared"]
    notes: tuple[str, ...] = ()


Prepare = Callable[[Any, Machine, Processes, Card | None], Prepared]
"""(configuration, machine, processes, card of the resumed checkpoint or None) -> Prepared.

Raises UserError for what the user can fix, and on resume if the data have changed.
"""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A task's entry points for the core.

    ``report`` writes a finished run's ``report.html`` from the files in its folder and returns its path;
    ``predict_command`` is the command suggested at the end of a run.
    """

    config: type[RunConfig]
    prepare: Prepare
    report: Callable[[Path], Path]
    predict_command: str
