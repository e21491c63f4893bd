"""Interleaved timing: contenders take turns, so that a busy or throttled machine slows them all equally."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one value per round; the rounds of all contenders are interleaved."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times_faster_than(self, other: "Timing") -> tuple[float, float, float]:
        """Median, minimum and maximum of other / self, round by round."""
        ratios = [theirs / ours for theirs, ours in zip(other.seconds, self.seconds, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def _seconds(call: Callable[[], object], times: int, device: torch.device) -> float:
    """Mean seconds of ``times`` calls, with the accelerator's queue drained before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / times


def interleaved(
    calls: dict[str, Callable[[], object]], *, rounds: int, device: torch.device, least_s: float = 0.4
) -> dict[str, Timing]:
    """Time each call once per round, in turn, each time after an uncounted call.

    Each call runs twice before the first round; the second run determines how many calls fill ``least_s`` seconds, so
    that a short call is repeated many times.
    """
    times = {}
    for name, call in calls.items():
        call()
        times[name] = max(1, round(least_s / max(_seconds(call, 1, device), 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # caches and allocator still hold the previous contender's state
            found[name].append(_seconds(call, times[name], device))
    return {name: Timing(seconds) for name, seconds in found.items()}
