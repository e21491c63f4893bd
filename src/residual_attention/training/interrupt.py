"""SIGTERM and Ctrl-C: finish the step and save; a second signal exits at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal stopped the run, which has been saved; ``exit_code`` is 128 + the signal number."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class SignalWatch:
    """A context in which SIGTERM and SIGINT only set ``received`` (0, or the signal number).

    Nested watches share the received signal in both directions: a signal that arrives during a run's final evaluation,
    when there is nothing left to stop, still stops whatever would follow the run.
    """

    def __init__(self) -> None:
        self.received = 0
        self._stop_at_once: str | None = None
        self._previous: dict[int, object] = {}

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + signum)
        self.received = signum
        if self._stop_at_once is not None:
            raise Interrupted(signum, self._stop_at_once)

    @contextmanager
    def at_once(self, message: str) -> Iterator[None]:
        """Within this context a signal raises Interrupted where the process is: everything is saved already."""
        if self.received:
            raise Interrupted(self.received, message)
        self._stop_at_once = message
        try:
            yield
        finally:
            self._stop_at_once = None
        if self.received:  # some code on the way took the exception for its own failure
            raise Interrupted(self.received, message)

    def __enter__(self) -> "SignalWatch":
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._previous[signum] = signal.signal(signum, self._handle)
        if outer := self._outer():
            self.received = outer.received
        return self

    def _outer(self) -> "SignalWatch | None":
        owner = getattr(self._previous[signal.SIGTERM], "__self__", None)
        return owner if isinstance(owner, SignalWatch) else None

    def __exit__(self, *_exc: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        if outer := self._outer():
            outer.received = outer.received or self.received
