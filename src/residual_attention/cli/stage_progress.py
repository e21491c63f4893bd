"""The share done of a long command's stages."""

import sys


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
