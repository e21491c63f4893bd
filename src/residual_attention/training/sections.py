"""Sections that plugins add to a run's report."""

import html
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader

from ..errors import UserError
from ..plugins import Choice, Choices, told

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Section(Choice):
    """``text`` is the heading; ``value`` returns the values for ``template``, or HTML if that is None."""

    template: Path | None = None


SECTIONS: Choices[Section] = Choices("report section", {})


def register_report_section(name: str, *, title: str = "", template: str | None = None) -> Callable[[F], F]:
    """A decorator that adds a section to ``report.html`` under ``title``; the function takes (run folder, summary).

    ``summary`` is the content of summary.json. The function returns HTML or, with ``template``, the values for that
    Jinja file, which is in the plugin's folder and also receives ``run`` and ``summary``. None omits the section.

    Raises UserError if the template does not exist.
    """

    def describe(function: Any) -> Section:
        path = None if template is None else Path(inspect.getfile(function)).parent / template
        if path is not None and not path.is_file():
            raise UserError(f"report section {name!r}: template {path} not found")
        return Section(title or name.replace("_", " ").capitalize(), function, path)

    return SECTIONS.register(name, describe)


def render_sections(run: Path, summary: dict[str, Any], environment: Environment) -> list[tuple[str, str]]:
    """Heading and HTML of each section, in the order of registration.

    A section that fails is replaced by its error, which also goes to stderr, so that the report is not lost.
    """
    found = []
    for name in SECTIONS:
        section = SECTIONS.choice(name)
        try:
            content = _rendered(section, run, summary, environment)
        except Exception as error:
            failure = " ".join(f"the section {name!r} failed: {told(error)}".split())
            print(f"ran: {failure}", file=sys.stderr)
            content = f"<p>{html.escape(failure)}</p>"
        if content is not None:
            found.append((section.text, content))
    return found


def _rendered(section: Section, run: Path, summary: dict[str, Any], environment: Environment) -> str | None:
    made = section.value(run, summary)
    if made is None or section.template is None:
        return made
    beside = environment.overlay(loader=FileSystemLoader(section.template.parent))
    template = beside.get_template(section.template.name)
    return template.render(**{"run": run, "summary": summary, **made})
