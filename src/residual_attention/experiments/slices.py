"""A machine's part of the cells. Cells are independent, so several machines can share them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Slice:
    """Every ``count``-th cell, starting with the ``index``-th (from 1); written ``index/count`` (``--shard``)."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Slice":
        """Parses i/n. Raises UserError for any other form."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--shard must be i/n with i from 1 to n, such as 2/8, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    @property
    def is_whole(self) -> bool:
        return self.count == 1

    def of(self, items: Sequence[T]) -> list[T]:
        return list(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


ALL = Slice()
