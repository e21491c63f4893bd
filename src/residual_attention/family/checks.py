"""The network's arguments, checked before anything is built: each failure is one line that says what is allowed."""

from collections.abc import Sequence

from ..errors import UserError
from .arguments import check_at_least, per_stage

MINIMUMS = {"num_classes": 0, "in_chans": 1, "final_width": 1, "final_stride": 1, "p": 0, "t": 1, "r": 1}


def check_counts(**counts: int) -> None:
    """Each argument is a whole number of at least what `MINIMUMS` gives for its name."""
    for name, value in counts.items():
        check_at_least(name, value, MINIMUMS[name])


def check_skip(skip: bool) -> None:
    if not isinstance(skip, bool):
        raise UserError(f"skip must be True or False, not {skip!r}")


def check_dropout(dropout: float) -> None:
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0.0 <= dropout < 1.0:
        raise UserError(f"dropout must lie in [0, 1), not {dropout!r}")


def stage_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The channels of each stage, of which there is at least one."""
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise UserError(f"widths needs a width for each stage, at least one, not {widths!r}")
    return per_stage("widths", widths, len(widths), 1)


def check_divisor(widths: Sequence[int], unit: str, divisor: int) -> None:
    """Units divide their channels among groups or branches, so that only some widths fit."""
    for width in widths:
        if width % divisor:
            raise UserError(f"widths must be multiples of {divisor} for unit={unit}, not {width}")
