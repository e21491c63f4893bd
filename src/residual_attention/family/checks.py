"""Checks of the network's arguments, before anything is built; each error states what is allowed."""

from collections.abc import Sequence

from ..errors import UserError
from .arguments import check_at_least, per_stage

MINIMUMS = {"num_classes": 0, "in_chans": 1, "final_width": 1, "final_stride": 1, "p": 0, "t": 1, "r": 1}


def check_counts(**counts: int) -> None:
    """Each argument must be an integer of at least its value in `MINIMUMS`."""
    for name, value in counts.items():
        check_at_least(name, value, MINIMUMS[name])


def check_skip(skip: bool) -> None:
    if not isinstance(skip, bool):
        raise UserError(f"skip must be True or False, not {skip!r}")


def check_dropout(dropout: float) -> None:
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0.0 <= dropout < 1.0:
        raise UserError(f"dropout must lie in [0, 1), not {dropout!r}")


def stage_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The channels of each stage; there must be at least one stage."""
    if isinstance(widths, str) or not isinstance(widths, Sequence) or not widths:
        raise UserError(f"widths needs one width for each stage, at least one in all, not {widths!r}")
    return per_stage("widths", widths, len(widths), 1)


def check_divisor(widths: Sequence[int], unit: str, divisor: int) -> None:
    """Every width must be a multiple of ``divisor``, since units split channels into groups or branches."""
    for width in widths:
        if width % divisor:
            raise UserError(f"widths must be multiples of {divisor} for unit={unit}, not {width}")
