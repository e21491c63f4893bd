"""Readable help: arguments in groups, the common ones first, with plain placeholders."""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

Groups = Mapping[str, Iterable[str]]
"""Field names by group title, in the order of the help."""

Field = tuple[str, Any, Any]
"""Name, type and `dataclasses.field`, as `dataclasses.make_dataclass` takes them."""

PLUGIN = "plugin"
_PLUGIN_HELP = "A Python file or module that adds your own choices; repeat the flag for several."
_PLUGINS = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="MODULE_OR_FILE", help=_PLUGIN_HELP)
]
PLACEHOLDERS = {int: "N", float: "X", str: "NAME", Path: "PATH"}
NAMED_PLACEHOLDERS = {
    "beside": "MODEL",
    "data": "DATA",
    "data_dir": "DIR",
    "device": "DEVICE",
    "engine": "ENGINE",
    "host": "ADDRESS",
    "init": "MODEL",
    "max_error": "SHARE",
    "min_confidence": "P",
    "only": "TEXT",
    "shard": "I/N",
    "slurm": "KEY=VALUE",
    "sort_into": "DIR",
    "time": "DURATION",
    "trunk_args": "KEY=VALUE",
    "trunk_weights": "SOURCE",
    "trunks": "PATTERN",
}
"""Of flags whose values are no plain names or paths."""


def groups_of(cls: type, common: tuple[str, ...], sections: Mapping[str, tuple[type, ...]], rest: str) -> Groups:
    """``common`` first, then the other fields by section, with ``rest`` for those in none. Positionals are separate."""
    names = [field.name for field in dataclasses.fields(cls)]
    owner = {
        field.name: title for title, kinds in sections.items() for kind in kinds for field in dataclasses.fields(kind)
    }
    grouped: dict[str, list[str]] = {"common": list(common), rest: [], **{title: [] for title in sections}}
    for name in names:
        if name not in common:
            grouped[owner.get(name, rest)].append(name)
    return grouped


def field_docs(cls: type) -> dict[str, str]:
    """The docstring below each field of ``cls`` and its bases; the nearest class wins."""
    found: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            text = following.value.value if _is_string(following) else None  # type: ignore[attr-defined]
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and text is not None:
                found[statement.target.id] = " ".join(text.split())
    return found


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _without_none(hint: Any) -> Any:
    """``X`` for ``X | None``; other hints unchanged."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else hint
    return hint


def _placeholder(name: str, hint: Any, positional: bool) -> str | None:
    """The placeholder for a value in the help; None leaves it to tyro."""
    if positional:
        return name.removesuffix("s").upper() + ("..." if typing.get_origin(_without_none(hint)) is tuple else "")
    kind = _without_none(hint)
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
        placeholder = NAMED_PLACEHOLDERS.get(name, PLACEHOLDERS.get(kind))
        return None if placeholder is None else f"{placeholder} ..."
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(map(str, typing.get_args(kind))) + "}"
    if kind is bool and kind is not hint:
        return "{true,false}"
    return NAMED_PLACEHOLDERS.get(name, PLACEHOLDERS.get(kind))


def _shown_default(value: Any) -> str:
    """The default as shown in the help; nothing for None or an empty value, which the help text explains."""
    if value is dataclasses.MISSING or value is None or value in ((), "", tyro.MISSING):
        return ""
    return f"(default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def _field(field: dataclasses.Field[Any], hint: Any, doc: str, default: object | None) -> Field:
    """The field with its help text, as `dataclasses.make_dataclass` takes it.

    A field made by `plugins.chosen_from` accepts the names registered so far: plugins are imported first.
    """
    markers: tuple[Any, ...] = ()
    if choices := field.metadata.get("choices"):
        names: Any = Literal.__getitem__(tuple(choices))  # type: ignore[attr-defined]
        hint, doc = (names | None if field.default is None else names), choices.help
    if typing.get_origin(hint) is Annotated:
        hint, *rest = typing.get_args(hint)
        markers = tuple(rest)
    value = field.default if default is None else getattr(default, field.name)
    placeholder = _placeholder(field.name, hint, positional=bool(markers))
    if markers and value is not dataclasses.MISSING:
        placeholder = f"[{placeholder}]"
    argument = tyro.conf.arg(help=doc, metavar=placeholder, help_behavior_hint=lambda _: _shown_default(value))
    again = dataclasses.field() if value is dataclasses.MISSING else dataclasses.field(default=value)
    annotated = hint
    for marker in (*markers, argument):
        annotated = Annotated[annotated, marker]
    return field.name, annotated, again


def grouped_class(cls: type, groups: Groups | None, default: object | None) -> type:
    """A dataclass for tyro, with one nested dataclass per group if there are any; `flattened` returns the values."""
    hints, docs = typing.get_type_hints(cls, include_extras=True), field_docs(cls)
    fields = {
        field.name: _field(field, hints[field.name], docs.get(field.name, ""), default)
        for field in dataclasses.fields(cls)
    }
    plugin = (PLUGIN, _PLUGINS, dataclasses.field(default=()))
    if groups is None:
        return _made("Arguments", [*fields.values(), plugin])
    parts: list[Field] = []
    for title, names in groups.items():
        part = _made(title, [fields[name] for name in names])
        parts.append((title, part, dataclasses.field(default_factory=part)))
    return _made("Arguments", [*parts, plugin])


def _made(name: str, fields: list[Field]) -> type:
    made = dataclasses.make_dataclass(name, fields, kw_only=True)
    made.__doc__ = ""
    return made


def flattened(parsed: Any) -> dict[str, Any]:
    """The values by field name, groups included, without the plugins, which are already imported."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(parsed):
        if field.name == PLUGIN:
            continue
        value = getattr(parsed, field.name)
        values |= flattened(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values
