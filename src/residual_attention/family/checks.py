"""Checks of the network's arguments, before anything is built; each error states what is allowed."""

from collections.abc import Sequence

from ..errors import UserError
from .arguments import check_at_least, per_stage

MINIMUMS = {"num_classes": 0, "in_chans": 1, "final_width": 1, "final_stride": 1, "p": 0, "t": 1, "r": 1}


# Far above any network that can be trained: what a header or a flag asks for is bounded before it is built.
MAXIMUMS = {"num_classes": 1_000_000, "in_chans": 1024, "final_width": 65_536, "final_stride": 16}
MAX_WIDTH, MAX_STAGES, MAX_UNITS = 65_536, 16, 2_000


def check_counts(**counts: int) -> None:
    """Each argument must be an integer from its value in `MINIMUMS` to that in `MAXIMUMS`, if it has one."""
    for name, value in counts.items():
        check_at_least(name, value, MINIMUMS[name])
        if value > MAXIMUMS.get(name, value):
            raise UserError(f"{name} must be at most {MAXIMUMS[name]}, not {value}")


def check_units(modules: Sequence[int], mask_depths: Sequence[int], p: int, t: int, r: int) -> None:
    """Raise UserError if the attention modules have more than `MAX_UNITS` residual units altogether."""
    masks = [2 * r * depth + depth - 1 for depth in mask_depths]
    units = sum(count * (2 * p + t + mask) for count, mask in zip(modules, masks, strict=True))
    if units > MAX_UNITS:
        raise UserError(
            f"modules {list(modules)}, mask_depths {list(mask_depths)}, p {p}, t {t} and r {r} make {units:,} units; "
            f"at most {MAX_UNITS:,} are supported"
        )


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
    if len(widths) > MAX_STAGES:
        raise UserError(f"widths has {len(widths)} stages; at most {MAX_STAGES} are supported")
    found = per_stage("widths", widths, len(widths), 1)
    if max(found) > MAX_WIDTH:
        raise UserError(f"widths must be at most {MAX_WIDTH}, not {max(found)}")
    return found


def check_divisor(widths: Sequence[int], unit: str, divisor: int) -> None:
    """Every width must be a multiple of ``divisor``, since units split channels into groups or branches."""
    for width in widths:
        if width % divisor:
            raise UserError(f"widths must be multiples of {divisor} for unit={unit}, not {width}")
