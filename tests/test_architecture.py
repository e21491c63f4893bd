"""The rooms of the package and which may import which; every import counts, lazy and type-only ones too."""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from residual_attention.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "residual_attention"

# From the bottom up. A room is a folder, or a file beside them. It imports rooms of lower layers only: neither higher
# ones nor its neighbours.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "hints", "version", "atomic", "allocator"),
    ("names",),
    ("palette", "own_files", "stages"),
    ("plugins", "documents"),
    ("devices",),
    ("family",),  # the network, in torch alone
    ("trunks",),  # the same on timm's networks, and every network by its name
    ("models",),  # their names in timm
    ("data",),
    ("boxes",),  # images with boxes, in any format
    ("checkpoints",),
    ("attention",),
    ("training",),  # the core, which knows no task
    ("classification", "detection"),
    ("tasks",),
    ("experiments", "export", "demo", "serve", "check", "audit"),
    ("bench",),
    ("cli",),
    ("__init__", "__main__"),  # the names that users import, and ``python -m residual_attention``
)

# Started by name or from outside, so that no module has to import them.
ENTRY_POINTS = {"__init__", "__main__", *(f"cli.{command}" for command in COMMANDS)}

# A file is read at one sitting. A longer one says why it stays one file.
MAX_LINES, MAX_LINES_OF_LONGER = 250, 350
LONGER = {
    "bench.suites": "one function a suite, over rows of the same shape",
    "checkpoints.hub": "a hub's folder is written and read by the same names",
    "classification.task": "one class, this task's side of the protocol",
    "detection.task": "one class, this task's side of the protocol",
}

FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}  # a thing lives where its subject lives

Graph = dict[str, set[str]]


def module_of(path: Path) -> str:
    """``family.units``; a package is named after its folder, the root ``__init__``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
PACKAGES = {module for module, path in FILES.items() if path.name == "__init__.py"}


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: none in functions, none for type checkers alone."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        type_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not type_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def absolute(node: ast.ImportFrom, package: list[str]) -> list[str] | None:
    """Where ``from ... import`` takes names from, below residual_attention; None when it is not from there."""
    module = node.module.split(".") if node.module else []
    if node.level:
        return package[: len(package) - node.level + 1] + module
    return module[1:] if module[:1] == ["residual_attention"] else None


def imports_in(nodes: Iterable[ast.AST], package: list[str]) -> set[str]:
    """The modules that these statements of a module in ``package`` import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {".".join(name[1:]) or "__init__" for name in names if name[0] == "residual_attention"}
        elif isinstance(node, ast.ImportFrom) and (origin := absolute(node, package)) is not None:
            for alias in node.names:
                submodule = ".".join([*origin, alias.name])
                found.add(submodule if submodule in FILES else ".".join(origin) or "__init__")
    return found


@cache
def graph(statements: Callable[[ast.Module], Iterable[ast.AST]] = ast.walk) -> Graph:
    """By module, which others its ``statements`` import."""
    return {
        module: imports_in(statements(ast.parse(path.read_text())), list(path.relative_to(SOURCE).parent.parts))
        - {module}
        for module, path in FILES.items()
    }


def reachable(imports: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(imports[start])
    while waiting:
        if (module := waiting.pop()) not in found:
            found.add(module)
            waiting += imports[module]
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def layer(module: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room(module) in rooms)


def test_every_room_has_one_layer():
    placed = [name for rooms in LAYERS for name in rooms]
    assert len(placed) == len(set(placed))
    assert {room(module) for module in FILES} <= set(placed)


def test_every_import_is_of_a_module_that_exists():
    assert {other for found in graph().values() for other in found} <= set(FILES)


def test_rooms_import_only_what_lies_below_them():
    wrong = [
        f"{module} imports {other}"
        for module, found in graph().items()
        for other in sorted(found)
        if room(module) != room(other) and layer(module) <= layer(other)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_reaches_itself():
    imports = graph()
    reached = {module: reachable(imports, module) for module in imports}
    circles = {
        tuple(sorted(other for other in found if module in reached[other]))
        for module, found in reached.items()
        if module in found
    }
    assert not circles, "\n".join(" <-> ".join(circle) for circle in circles)


def test_every_module_is_used():
    used = set().union(*graph().values())
    for folder in ("tools", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= imports_in(ast.walk(ast.parse(path.read_text())), [folder])
    assert set(FILES) - used - PACKAGES - ENTRY_POINTS == set()


def test_a_prediction_does_not_import_timm():
    """It takes longer to import than torch: `models` is imported only where a hub's folder needs it."""
    assert "models" not in reachable(graph(at_import), "classification.predict")


def test_files_are_short():
    lines = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}
    allowed = {module: MAX_LINES_OF_LONGER if module in LONGER else MAX_LINES for module in FILES}
    assert {module: count for module, count in lines.items() if count > allowed[module]} == {}


def test_no_room_is_for_odds_and_ends():
    assert {part for module in FILES for part in module.split(".")} & FORBIDDEN_NAMES == set()
