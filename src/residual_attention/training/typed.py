"""A configuration's values as they come from a file: checked against the field's type before anything uses them."""

import types
import typing
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError

NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def typed(key: str, value: Any, hint: Any) -> Any:
    """``value`` as the field ``key`` of type ``hint`` holds it: a list becomes a tuple, text a path.

    Raises UserError for a value of another type.
    """
    if _is_union(hint):
        kinds = typing.get_args(hint)
        if value is None and type(None) in kinds:
            return None
        (hint,) = (kind for kind in kinds if kind is not type(None))
    if typing.get_origin(hint) is tuple:
        (kind, _) = typing.get_args(hint)
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise UserError(f"{key} must be a list, not {_shown(value)}")
        return tuple(typed(key, one, kind) for one in value)
    if typing.get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in typing.get_args(hint):
            raise UserError(f"{key} must be one of {', '.join(typing.get_args(hint))}, not {_shown(value)}")
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    accepted = int | float if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{key} must be {NAMES[hint]}, not {_shown(value)}")
    return value


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
