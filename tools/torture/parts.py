"""What a part of the torture gets and returns."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 10  # failures that the report quotes


@dataclass
class Task:
    """How much of a part to run: ``size`` is a share of its full count, ``seconds`` a limit, ``folder`` its own."""

    size: float
    seconds: float
    folder: Path
    seed: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def random(self) -> random.Random:
        return random.Random(self.seed)

    def part(self, share: float, name: str) -> "Task":
        """A part of this part: its share of the time, and a folder below this one's."""
        (folder := self.folder / name.replace(" ", "-")).mkdir()
        return Task(self.size, self.seconds * share, folder, self.seed)

    def count(self, full: int) -> int:
        return max(1, round(full * self.size))

    def numbers(self, full: int) -> Iterator[int]:
        """0, 1, ... up to the part's share of ``full``, or until its time is over; at least one."""
        for number in range(self.count(full)):
            if number and time.monotonic() - self.started > self.seconds:
                return
            yield number


@dataclass
class Tally:
    """Attempts of one kind: how many, and what went wrong in which."""

    tried: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def good(self, outcome: str) -> None:
        self.tried += 1
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def bad(self, what: str) -> None:
        self.tried += 1
        self.failures.append(" ".join(what.split())[:300])

    def to_dict(self) -> dict[str, object]:
        outcomes = dict(sorted(self.outcomes.items()))
        return {
            "tried": self.tried,
            "failed": len(self.failures),
            "outcomes": outcomes,
            "failures": self.failures[:SHOWN],
        }


Part = Callable[[Task], dict[str, Tally]]
