"""Named choices: built in, or added by plugins.

A plugin is a Python file or module that registers choices on import. The command line imports the plugins given with
``--plugin``; in Python, import them yourself. A checkpoint stores the names of the plugins its network needs, and
`require` checks that they are loaded. A checkpoint never triggers an import: that would run its author's code.
"""

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import UserError
from .hints import did_you_mean


@dataclass(frozen=True)
class Choice:
    """One choice; ``text`` describes it in help and titles.

    ``value`` is what the name stands for. A string ``module:name`` is an object in that module of the package,
    imported on first use, so that names and help do not import torch.
    """

    text: str
    value: Any


C = TypeVar("C", bound=Choice)
T = TypeVar("T")

FLAG = "--plugin"  # accepted by every command: a file or a module name

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_importing: list[str] = []  # plugins being imported, innermost last
_files: dict[str, str] = {}  # a plugin's file -> its name
_names: set[str] = set()  # of all known plugins: imported by `load_plugin`, or having registered something
_sources: list[str] = []  # arguments of `load_plugin`, files as absolute paths


class Choices(Generic[C]):
    """The choices of one ``kind`` in order, built-in ones first; the first is the default.

    ``about`` introduces them in help; a ``closed`` set accepts none from plugins.
    """

    def __init__(self, kind: str, own: dict[str, C], about: str = "", *, closed: bool = False) -> None:
        self.kind, self.about, self.closed = kind, about, closed
        self._choices = dict(own)
        self._things: dict[str, Any] = {}  # registered classes and functions
        self._plugins: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._choices

    def __len__(self) -> int:
        return len(self._choices)

    @property
    def default(self) -> str:
        return next(iter(self))

    @property
    def help(self) -> str:
        """The command line's help: ``about``, then what each choice means."""
        told = " | ".join(f"{name}: {choice.text}" if choice.text else name for name, choice in self._choices.items())
        return f"{self.about} {told}.".lstrip()

    def choice(self, name: str) -> C:
        """The choice of that name. Raises UserError for an unknown name, with the nearest known one."""
        if name not in self:
            close = did_you_mean(name, self) if isinstance(name, str) else ""
            how = "" if self.closed else f"; load a plugin's choices with {FLAG}"
            raise UserError(f"{self.kind} must be one of {', '.join(self)}, not {name!r}{close}{how}")
        return self._choices[name]

    def value(self, name: str) -> Any:
        """What the name stands for. Raises UserError like `choice`."""
        value = self.choice(name).value
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            return getattr(importlib.import_module(f".{module}", __package__), attribute)
        return value

    def plugin_of(self, name: str) -> str | None:
        """The plugin that registered the name; None for a built-in choice."""
        return self._plugins.get(name)

    def register(self, name: str, describe: Callable[[Any], C]) -> Callable[[T], T]:
        """A decorator that adds a choice; ``describe`` builds it from the decorated object.

        Raises:
            UserError: the name is not a lower-case identifier, or another object has it. The same object may be
                registered again, as when a module is reloaded or a notebook cell is rerun.
        """
        assert not self.closed
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(f"{self.kind} {name!r}: names use lower-case letters, digits and _, a letter first")
        plugin = _registering()

        def decorate(thing: T) -> T:
            if name in self and not _same(self._things.get(name), thing):
                owner = self._plugins.get(name)
                taken = f"in the plugin {owner}" if owner else "in the package"
                raise UserError(f"{self.kind} {name!r} already exists {taken}; choose another name")
            self._choices[name] = describe(thing)
            self._things[name], self._plugins[name] = thing, plugin
            _names.add(plugin)
            return thing

        return decorate


def chosen_from(choices: Choices, default: str | None = None) -> Any:
    """A dataclass field that holds the name of one of the ``choices``; the command line lists and explains them."""
    return field(default=default, metadata={"choices": choices})


def _same(known: Any, thing: Any) -> bool:
    """Whether two objects are identical, or the same definition executed twice."""
    return known is thing or (known is not None and _definition(known) == _definition(thing))


def _definition(thing: Any) -> tuple[str | None, str]:
    """File (or module, if there is no file) and qualified name."""
    module = getattr(thing, "__module__", type(thing).__module__)
    file = getattr(sys.modules.get(module), "__file__", None)
    return file or module, getattr(thing, "__qualname__", repr(thing))


def _registering() -> str:
    """The name of the plugin being imported, or else of the calling module."""
    if _importing:
        return _importing[-1]
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame = frame.f_back
    name = frame.f_globals.get("__name__", "__main__")
    return Path(frame.f_globals.get("__file__", name)).name if name == "__main__" else name


def load_plugin(given: str) -> None:
    """Import a plugin by file or module name; importing it again has no effect.

    A file is imported as a module named after it. Its folder is appended to the search path, so that it can import
    its neighbours. A module is looked up in the environment, then in the working folder.

    Raises:
        UserError: no such file or module, a name that another module has, or an error in the plugin (with its line).
    """
    is_file = given.endswith(".py") or os.sep in given
    path = Path(given).resolve()
    if is_file and not path.is_file():
        raise UserError(f"{FLAG} {given}: no such file")
    module, folder = (path.stem, path.parent) if is_file else (given, Path.cwd())
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    name = path.name if is_file else given
    file = _file_of(module, given)
    if is_file and (file is None or not Path(file).exists() or not path.samefile(file)):
        raise UserError(f"{FLAG} {given}: another module is named {module}; rename the file")
    if file is None:
        raise UserError(
            f"{FLAG} {given}: no such module in the environment or the working folder; a file name must end in .py"
        )
    _files[file] = name
    _importing.append(name)
    try:
        importlib.import_module(module)
    except Exception as error:
        raise UserError(f"{FLAG} {given}: {told(error)}") from error
    finally:
        _importing.pop()
    _names.add(name)
    _sources.append(str(path) if is_file else given)


def loaded() -> list[str]:
    """The ``--plugin`` arguments that load the same plugins in another process."""
    return list(dict.fromkeys(_sources))


def _file_of(module: str, given: str) -> str | None:
    """The file of a module; None if it does not exist. Its parents are imported, and an error in them is reported."""
    importlib.invalidate_caches()  # for a file written since this process started
    try:
        spec = None if module.startswith(".") else importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):  # no such parent; not a module name
        return None
    except Exception as error:
        raise UserError(f"{FLAG} {given}: {told(error)}") from error
    return spec.origin if spec is not None else None


def told(error: BaseException) -> str:
    """``hard.py, line 3: NameError: name 'x' is not defined``, for the innermost line in a plugin."""
    file, line = getattr(error, "filename", None), getattr(error, "lineno", None)
    if file and line:  # a syntax error, in Python or in a template
        return f"{Path(file).name}, line {line}: {getattr(error, 'msg', error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in _files]
    where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: " if frames else ""
    return f"{where}{'' if isinstance(error, UserError) else f'{type(error).__name__}: '}{error}"


def blamed(error: BaseException) -> str | None:
    """The message for an error in a plugin's code or in what it called; None if no plugin was involved."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"plugin {told(error)}" if any(frame.filename in _files for frame in frames) else None


def _stem(name: str) -> str:
    """``hard`` for ``hard.py`` and for ``my_package.hard``: a plugin can be named either way."""
    return name.removesuffix(".py").rpartition(".")[2]


def require(names: Iterable[str], needed_by: str = "this model") -> None:
    """Raise UserError for the first plugin that is not loaded; the message says how to load it."""
    here = {_stem(name) for name in _names}
    for name in names:
        if _stem(name) not in here:
            raise UserError(
                f"{needed_by} needs the plugin {name}: pass its file or module with {FLAG} (in Python, import it first)"
            )
