"""Checks of the constructor's arguments; each raises a UserError that states what is allowed."""

from collections.abc import Sequence

from ..errors import UserError


def check_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} must be an integer of at least {least}, not {value!r}")


def per_stage(name: str, values: int | Sequence[int], num_stages: int, least: int) -> tuple[int, ...]:
    """One integer per stage; a single one applies to all stages."""
    if isinstance(values, int):
        values = (values,)
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name} must be an integer, or one for each stage, not {values!r}")
    values = tuple(values) * num_stages if len(values) == 1 else tuple(values)
    if len(values) != num_stages:
        raise UserError(f"{name} needs one value for each of {num_stages} stages, got {len(values)}: {values}")
    for value in values:
        check_at_least(name, value, least)
    return values


def levels_taken(indices: int | Sequence[int] | None, count: int) -> tuple[list[int], int]:
    """The requested feature levels, and the last of them.

    ``indices`` as in timm: None for all, n for the last n, or a list in which negative numbers count from the end.

    Raises:
        UserError: a level that does not exist.
    """
    if indices is None:
        return list(range(count)), count - 1
    given = list(range(count - indices, count)) if isinstance(indices, int) else list(indices)
    taken = given if isinstance(indices, int) else [count + i if i < 0 else i for i in given]
    if not taken or not all(0 <= i < count for i in taken):
        raise UserError(f"indices {indices} are not among the {count} feature levels")
    return taken, max(taken)
