"""The page's sessions: how many are kept, for how long, and how many bytes they take at most."""

import dataclasses
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from .session import Session

MAX_SESSIONS = 40  # of ours, and of Gradio's own states, which take 0.4 MiB each
MAX_BYTES = 256 * 2**20
FORGET_AFTER_S = 1800


def held_bytes(value: Any, seen: set[int] | None = None) -> int:
    """Bytes of the tensors and pictures in a value; a storage that several tensors share counts once."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    if isinstance(value, Mapping):
        return sum(held_bytes(one, seen) for one in value.values())
    if isinstance(value, list | tuple):
        return sum(held_bytes(one, seen) for one in value)
    if dataclasses.is_dataclass(value):
        return sum(held_bytes(getattr(value, field.name), seen) for field in dataclasses.fields(value))
    return 0


class SessionStore:
    """Sessions by a token that only the server knows; the least recently used is dropped first.

    A browser's tab may stay open for a day, and a program may call the page a thousand times: neither holds memory.
    """

    def __init__(
        self,
        max_sessions: int = MAX_SESSIONS,
        max_bytes: int = MAX_BYTES,
        forget_after_s: float = FORGET_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = max_sessions, max_bytes, forget_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Session, int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        return sum(size for _, size, _ in self._kept.values())

    def keep(self, session: Session) -> str:
        """Keep a session and drop what is over the limits, but never this one; returns its token."""
        token = secrets.token_urlsafe(16)
        size = held_bytes((session.picture, session.found))
        with self._lock:
            self._kept[token] = (session, size, self._clock())
            self._drop()
        return token

    def get(self, token: str | None) -> Session | None:
        """The session, or None if it was dropped."""
        with self._lock:
            self._drop()
            if token is None or token not in self._kept:
                return None
            session, size, _ = self._kept[token]
            self._kept[token] = (session, size, self._clock())
            self._kept.move_to_end(token)
            return session

    def _drop(self) -> None:
        most, most_bytes, age_s = self._limits
        while self._kept:
            _, _, used = next(iter(self._kept.values()))
            full = len(self._kept) > 1 and (len(self._kept) > most or self.bytes > most_bytes)
            if not full and self._clock() - used <= age_s:
                return
            self._kept.popitem(last=False)
