"""Metrics that plugins add to the evaluation of a classifier on every split."""

from collections.abc import Callable
from typing import Any, TypeVar

from ..plugins import Choice, Choices

F = TypeVar("F", bound=Callable[..., Any])

METRICS: Choices[Choice] = Choices("metric", {})


def register_metric(name: str) -> Callable[[F], F]:
    """A decorator that adds a metric; `ran eval`, summary.json and the report give it for each split under ``name``.

    The function takes probabilities (N, K) float32 and true labels (N,) int64, both on the CPU, and returns a number.
    It is not called for multi-label data.
    """
    return METRICS.register(name, lambda function: Choice("", function))


def measured(probabilities: Any, labels: Any) -> dict[str, float]:
    """Every registered metric by name."""
    return {name: float(METRICS.value(name)(probabilities, labels)) for name in METRICS}
