"""The uncertainty of an error that was measured on few images."""

import math
from collections.abc import Mapping
from typing import Any

MANY_IMAGES = 1000  # from here on, errors have two decimals and no interval


def wilson_interval_pct(wrong: int, total: int) -> tuple[float, float]:
    """The 95 % interval of an error in percent, of ``wrong`` among ``total`` images (Wilson, 1927)."""
    share, z = wrong / total, 1.959964
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def interval_pct(part: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval that is shown with the error of a split; None where images are many, or none was measured."""
    if "error_interval_pct" not in part or part["images"] >= MANY_IMAGES:
        return None
    low, high = part["error_interval_pct"]
    return low, high


def accuracy_note(part: Mapping[str, Any]) -> str:
    """How many images an accuracy is from; of few, with its interval: ``23 images (95 %: 37 to 74)``."""
    text = f"{part['images']:,} images"
    if (interval := interval_pct(part)) is None:
        return text
    low, high = interval
    return f"{text} (95 %: {100 - high:.0f} to {100 - low:.0f})"


def error_cell(part: Mapping[str, Any]) -> str:
    """The error of a split in a table, in percent: ``7.45``, or ``13.0 (6 to 26)`` where images are few.

    It breaks before the interval alone. A dash if there is no error.
    """
    if part.get("error_pct") is None:
        return "–"
    text = f"{part['error_pct']:.{2 if part['images'] >= MANY_IMAGES else 1}f}"
    interval = interval_pct(part)
    return text if interval is None else f"{text} ({interval[0]:.0f}\u00a0to\u00a0{interval[1]:.0f})"


def student_half_width(deviation: float, count: int) -> float:
    """Half of the 95 % interval of the mean of ``count`` values, at least 2, by Student's t.

    ``deviation``: their standard deviation, as of a sample.
    """
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)


def error_text(part: Mapping[str, Any]) -> str:
    """The error of a split, with its interval and fewer decimals where images are few, and balanced where that differs.

    ``  7.45 %``; `` 13.0 % (95 %: 6 to 26)``; `` 13.0 % (95 %: 6 to 26), 20.5 % balanced over classes``.
    """
    if (interval := interval_pct(part)) is None:
        return f"{part['error_pct']:6.2f} %"
    low, high = interval
    text = f"{part['error_pct']:5.1f} % (95 %: {low:.0f} to {high:.0f})"
    balanced = part["balanced_error_pct"]
    return text if abs(balanced - part["error_pct"]) < 1 else f"{text}, {balanced:.1f} % balanced over classes"
