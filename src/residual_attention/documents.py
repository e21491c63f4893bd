"""JSON and YAML that others wrote or edited: read within bounds; whatever is wrong is one line that names the file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError

MAX_YAML_BYTES = 2**20  # a configuration has a few kilobytes
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Python raises when a value from a file is missing, or of another type or size than expected."""


class _WithoutAliases(yaml.SafeLoader):
    """A few aliases of aliases make a file of one kilobyte fill the memory; none of our files has any."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not accepted")
        return super().compose_node(parent, index)


def parse_yaml(text: str, source: str | Path) -> Any:
    """The content of YAML. Raises UserError, naming ``source``, for anything that is not plain YAML of that size."""
    if len(text) > MAX_YAML_BYTES:
        raise UserError(f"{source} is larger than a YAML file can be here ({MAX_YAML_BYTES // 2**20} MiB)")
    try:
        return yaml.load(text, _WithoutAliases)
    except (yaml.YAMLError, *DAMAGE) as error:
        raise UserError(f"{source} is not valid YAML: {_reason(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file. Raises UserError for anything else."""
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file") from error
    content = parse_yaml(text, path)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} is damaged: expected names with values")
    return content


def parse_json(text: str | bytes, source: str | Path) -> Any:
    """The value of JSON. Raises UserError, naming ``source``, for text that is not JSON or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(f"{source} is nested too deeply for JSON of this kind") from error
    except ValueError as error:  # not JSON, not text, or an integer of thousands of digits
        raise UserError(f"{source} is not valid JSON: {_reason(error)}") from error


def rounded(value: Any) -> Any:
    """JSON values with floats rounded to what is measured."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


@contextmanager
def blaming(what: str, remedy: str = "", error_type: type[UserError] = UserError) -> Iterator[None]:
    """Turn what a damaged or edited file causes into one line: ``WHAT: <reason>; REMEDY``. A UserError passes.

    For code that does nothing but read values of such a file; ``--debug`` still shows the traceback.
    """
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, a RuntimeError
            raise
        end = f"; {remedy}" if remedy else ""
        raise error_type(f"{what}: {_reason(error)}{end}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
