"""Durations as people write and read them."""

import re

from ..errors import UserError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PATTERN = re.compile(r"(?=\d)" + "".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS))
LONGEST_S = 365 * 86400


def duration(seconds: float) -> str:
    """``45 s``, ``12 min 05 s``, ``3 h 20 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def seconds_of(text: str) -> float:
    """Seconds of ``90s``, ``45m``, ``2h30m`` or ``1d``. Raises UserError for anything else, and above a year."""
    found = _PATTERN.fullmatch(text.strip().lower().replace(" ", ""))
    if found is None:
        raise UserError(f"time must be a duration such as 90s, 45m, 2h30m or 1d, not {text!r}")
    seconds = sum(float(value) * unit for value, unit in zip(found.groups(), _UNITS.values(), strict=True) if value)
    if not 0 < seconds <= LONGEST_S:
        raise UserError(f"time must be above 0 and at most 365 days, not {text!r}")
    return seconds
