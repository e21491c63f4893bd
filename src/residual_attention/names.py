"""File and class names as they can be shown, and as they are accepted."""

import shlex
import unicodedata
from collections.abc import Iterable, Sequence

from .errors import UserError

CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # change the direction of what follows


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in CONTROLS and character not in TURNS


def printable(name: object) -> str:
    r"""The name with what a terminal acts on or cannot encode escaped, such as ``\n`` or the byte ``\xff``."""
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_shown(c) else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def as_argument(path: object) -> str:
    """A path in a command that a message suggests: quoted where a shell would divide it."""
    return printable(shlex.quote(str(path)))


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 epoch``, ``2,000 epochs``; ``many`` where the plural is irregular."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def one_line(text: object) -> str:
    """A message on one line, with its names `printable`."""
    return printable(" ".join(str(text).split()))


def check_class_names(names: Sequence[str], source: object) -> None:
    """Raise UserError for a class name that a model or a report cannot hold, or one that occurs twice."""
    for name in names:
        if not name.strip():
            raise UserError(f"{source}: a class has an empty name; rename it")
        if not all(map(_is_shown, name)):
            what = "is not valid UTF-8" if _has_bytes(name) else "holds control characters"
            raise UserError(f"{source}: the class name '{printable(name)}' {what}; rename it")
    if twice := repeated(names):
        raise UserError(f"{source}: the class name '{twice}' occurs twice; rename one")


def _has_bytes(name: str) -> bool:
    return any(0xD800 <= ord(c) <= 0xDFFF for c in name)


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs for the second time; None if each occurs once."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
