"""What the commands that write a page of findings have in common: the share done of a stage, and the end."""

import json
import sys
from collections.abc import Iterable
from typing import Any

from ..names import printable
from ..own_files import Written


class StageProgress:
    """The share done of a stage, on a terminal only."""

    def __init__(self) -> None:
        self.shown = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        text = f"{stage} {100 * done // max(1, total)} %"
        if text != self.shown:
            self.shown = text
            print(f"\r{text:<24}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def print_json(done: Written[Any]) -> None:
    """The document, and where it and the page lie."""
    print(json.dumps({**json.loads(done.findings.to_json()), "page": str(done.page), "document": str(done.document)}))


def print_summary(done: Written[Any], notes: Iterable[str], lines: Iterable[str]) -> None:
    """The notes, the lines and where page and document lie."""
    for note in notes:
        print(f"note: {printable(note)}")
    for line in lines:
        print(line)
    for name, path in (("page", done.page), ("document", done.document)):
        print(f"{name:<16}{printable(path)}")
