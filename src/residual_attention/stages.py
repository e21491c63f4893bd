"""The stages of a long command: how far each is, and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Say = Callable[[str, int, int], None]
"""Called with the stage, what of it is done, and all of it."""


def silent(stage: str, done: int, total: int) -> None:
    """A `Say` that says nothing."""


@dataclass
class Clock:
    """Seconds by stage."""

    time_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.time_s[name] = time.perf_counter() - start
