"""Pictures at the end of a run: none of them may cost the training that it shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..names import one_line
from .interrupt import Interrupted


@dataclass
class Attempts:
    """What could not be drawn or written: name -> why."""

    failed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Note an error of the drawing called ``name``, and go on. A signal still stops the run."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            self.failed[name] = one_line(f"{type(error).__name__}: {error}")
