"""Parse arguments into dataclasses with tyro; report its errors as one line with the nearest match."""

import contextlib
import dataclasses
import io
import re
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import tyro

from ..data.request import MAX_IMAGE_SIZE
from ..errors import UserError
from ..hints import did_you_mean
from ..names import one_line
from ..plugins import FLAG
from ..training.config import RunConfig, objection_to
from .grouping import Groups, flattened, grouped_class

T = TypeVar("T")
ConfigT = TypeVar("ConfigT", bound=RunConfig)
NEGATIVE = ("-inf", "-infinity", "-nan")
_RULE = re.compile(r"[╭╰╮╯│|─\-\s]*")  # tyro draws its boxes in ASCII if the output is not UTF-8


def _optional_booleans(cls: type) -> dict[str, str]:
    """Flags of ``bool | None`` fields, for which tyro requires a value: field name to kebab-case name."""
    hints = typing.get_type_hints(cls)
    found = {}
    for name, hint in hints.items():
        if isinstance(hint, types.UnionType) and set(typing.get_args(hint)) == {bool, type(None)}:
            found[name] = name.replace("_", "-")
    return found


def _with_switches(cls: type, argv: list[str]) -> list[str]:
    """``--flip`` and ``--no-flip`` for optional booleans; ``true`` and ``false`` in any case."""
    out: list[str] = []
    switches = set(_optional_booleans(cls).values())
    for i, argument in enumerate(argv):
        name, _, value = argument.removeprefix("--").partition("=")
        following = argv[i + 1].lower() if i + 1 < len(argv) else ""
        if argument.startswith("--no-") and name.removeprefix("no-") in switches:
            out += [f"--{name.removeprefix('no-')}", "False"]
        elif argument.startswith("--") and name in switches:
            out += [f"--{name}"] + ([value.capitalize()] if value else [])
            if not value and following not in ("true", "false", "none"):
                out.append("True")
        elif argument.lower() in NEGATIVE and out and out[-1].startswith("--") and "=" not in out[-1]:
            out[-1] += f"={argument}"  # a value, though it looks like a flag
        elif out and out[-1].removeprefix("--") in switches and argument.lower() in ("true", "false", "none"):
            out.append(argument.capitalize())
        else:
            out.append(argument)
    return out


def _refuse_empty(argv: list[str]) -> None:
    """Raise UserError for an empty argument: as a path it would mean the current folder."""
    for i, argument in enumerate(argv):
        if not argument:
            flag = argv[i - 1] if i and argv[i - 1].startswith("--") else "an argument"
            raise UserError(f"{flag} is empty; give it a value")
        if argument.startswith("--") and argument.endswith("="):
            raise UserError(f"{argument.removesuffix('=')} is empty; give it a value")


def flags(cls: type) -> list[str]:
    return [f"--{field.name.replace('_', '-')}" for field in fields(cls)]


def _one_line(text: str, cls: type, argv: list[str]) -> str:
    """tyro's boxed message, up to its first rule, as one sentence; with the nearest flag or choice."""
    known = [*flags(cls), *(f"--no-{flag[2:]}" for flag in flags(cls)), FLAG, "--help"]
    for argument in argv:
        flag = argument.partition("=")[0]
        if flag.startswith("-") and not re.fullmatch(r"-\d.*|-", flag) and flag.replace("_", "-") not in known:
            return f"unknown option {flag}{did_you_mean(flag, known)}"
    lines: list[str] = []
    for line in text.splitlines()[1:]:
        if not _RULE.fullmatch(line):
            lines.append(line.strip("│| "))
        elif lines:
            break
    return _reworded(" ".join(lines) or "cannot parse the arguments")


def _reworded(message: str) -> str:
    """Reword tyro's most common errors for users."""
    if found := re.match(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", message):
        given, flag, listing = found.groups()
        options = [option for option in re.findall(r"'([^']+)'", listing) if option != "None"]
        return f"{flag} must be one of {', '.join(sorted(options))}, not {given!r}{did_you_mean(given, options)}"
    if found := re.match(r"Error parsing (\S+): .* could be instantiated from \['?(.*?)'?\]", message):
        return f"{found[1]}: invalid value {found[2]!r}"
    if found := re.match(r"Error parsing (\S+): (.*)", message):
        return f"{found[1]}: {found[2]}"
    if found := re.match(r"Missing from [\w ]+: (?:\S+ )?([A-Z]{2,})\b", message):
        return f"{found[1]} is missing"
    return message.rstrip(".")


def parse(
    cls: type[T],
    argv: list[str],
    *,
    prog: str,
    description: str,
    default: T | None = None,
    groups: Groups | None = None,
) -> T:
    """An instance of the dataclass ``cls`` parsed from arguments. ``--help`` prints help, in ``groups``, and exits.

    A field made by `plugins.chosen_from` accepts the registered names.

    Raises:
        UserError: invalid arguments, in one line.
    """
    _refuse_empty(argv)
    argv = _with_switches(cls, argv)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                grouped_class(cls, groups, default),
                args=argv,
                prog=prog,
                description=description,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        if not complaint.getvalue().strip():
            raise
        message = _one_line(complaint.getvalue(), cls, argv)
        raise UserError(f"{message}; see `{prog} --help`") from None
    values = flattened(parsed)
    _check_finite(values, prog)
    return cls(**values)


def _check_finite(values: dict[str, object], prog: str) -> None:
    """Raise UserError, naming the flag, for ``inf`` and ``nan``, which are numbers to Python and to tyro, and for
    numbers that no step, image or byte counts to."""
    for name, value in values.items():
        if objection := objection_to(value):
            raise UserError(f"--{name.replace('_', '-')} {objection}; see `{prog} --help`")


def check_loading(batch_size: int, workers: int) -> None:
    """Raise UserError for a number of images a batch, or of worker processes, that no loader can have."""
    if batch_size < 1 or workers < 0:
        raise UserError("batch-size must be at least 1 and workers at least 0")


def given_value(argv: list[str], flag: str) -> str | None:
    """The value of a flag among unparsed arguments; None if it is absent."""
    for i, argument in enumerate(argv):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
        if argument == flag and i + 1 < len(argv):
            return argv[i + 1]
    return None


def as_asked(config: ConfigT, argv: list[str]) -> ConfigT:
    """Apply an explicit ``--epochs`` to a recipe that is measured in steps or has a minimum number of them."""
    if config.time is not None:
        for flag in ("--epochs", "--steps", "--repeats", "--min-steps"):
            if given_value(argv, flag) is not None:
                raise UserError(f"--time sets the length of the run; leave {flag} out")
    if given_value(argv, "--epochs") is None:
        return config
    steps = config.steps if given_value(argv, "--steps") is not None else None
    min_steps = config.min_steps if given_value(argv, "--min-steps") is not None else 0
    return dataclasses.replace(config.lasting(epochs=config.epochs), steps=steps, min_steps=min_steps)


def images_among(sources: Sequence[str]) -> list[Path]:
    """`data.find.find_images`; what is not an image is counted and named on stderr."""
    from ..data.find import find_images

    notices: list[str] = []
    paths = find_images(sources, notices)
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)
    return paths


def check_image_size(size: int | None) -> None:
    """Raise UserError for an ``--image-size`` that no network here reads; None is the network's own."""
    if size is not None and not 1 <= size <= MAX_IMAGE_SIZE:
        raise UserError(f"image-size must be between 1 and {MAX_IMAGE_SIZE}, not {size}")


def print_error(message: str) -> None:
    """Print one line on stderr for an error that does not end the command."""
    print(f"ran: {one_line(message)}", file=sys.stderr)
