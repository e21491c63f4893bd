"""Shared by the report pages of all tasks: number formats, embedded pictures, a finished run's files."""

import base64
import csv
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, Template, select_autoescape

from ..atomic import write_atomically
from ..documents import blaming, parse_json, read_yaml
from ..errors import UserError
from ..names import as_argument

PATHS = ("data", "data_dir", "init", "out")  # fields of a configuration


def data_url(path: Path) -> str | None:
    """A PNG as a data URL, so that the page is self-contained; None if there is no file."""
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash if unknown."""
    return "–" if value is None else f"{value:.{digits}f}"


def short_duration(seconds: float) -> str:
    """``95 s``, ``12 min``, ``3.5 h``."""
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def made_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """How a run was made, as (name, value) rows: steps, precision, hardware, versions."""
    hardware = summary["hardware"]
    processor = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB"
    rows = [
        ("steps", f"{summary['steps']:,} in {summary['epochs']} epochs ({summary['status'].replace('_', ' ')})"),
        ("precision", summary["precision"]),
        ("processor", processor),
        ("GPU", hardware["gpu"] or "none"),
        ("processes", str(summary["processes"])),
    ]
    rows += [(package, version) for package, version in summary["versions"].items()]
    if summary.get("skipped_images"):
        rows.append(("unreadable training images skipped", str(summary["skipped_images"])))
    return rows


def shareable(page: str, run: Path, config: Mapping[str, Any]) -> str:
    """The page without this machine's paths: of each that the run knows, and of the home folder, the name is left."""
    known = [str(run.resolve()), *(value for key in PATHS if isinstance(value := config.get(key), str))]
    known = [path for path in known if Path(path).is_absolute() and Path(path).name]
    for path in sorted(known, key=len, reverse=True):
        for written in {path, html.escape(path)}:
            page = page.replace(written, html.escape(Path(path).name))
    home = str(Path.home())
    return page.replace(home + "/", "~/") if len(home) > 1 else page


def read_config(run: Path) -> dict[str, Any]:
    """A run's ``config.yaml``; empty without one."""
    path = run / "config.yaml"
    return read_yaml(path) if path.is_file() else {}


def environment(package: str) -> Environment:
    """Templates of the task's ``package`` (its dotted name), and the shared style sheet."""
    loaders = [PackageLoader(name) for name in (package, "residual_attention.training")]
    return Environment(
        loader=ChoiceLoader(loaders),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a run's ``metrics.csv``, one for each epoch. Raises UserError if it is missing, empty or damaged."""
    what = f"{path} is damaged"
    remedy = f"`ran resume {as_argument(path.parent)}` rewrites it"
    with blaming(what, remedy), path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "epoch" not in rows[0]:
        raise UserError(f"{what}: expected a row for each epoch; {remedy}")
    return rows


def write_page(
    run: Path, template: Template, summary: dict[str, Any], pictures: Sequence[str], **sections: Any
) -> Path:
    """Write ``run/report.html``: the task's ``sections``, and what every page has. Returns its path.

    ``pictures``: the names of PNG files in the run's folder; one that is missing is None in the template.
    """
    config = run / "config.yaml"
    page = template.render(
        summary=summary,
        made=made_rows(summary),
        pictures={name: data_url(run / f"{name}.png") for name in pictures},
        config=config.read_text() if config.is_file() else None,
        run=str(run),
        **sections,
    )
    out = run / "report.html"
    write_atomically(out, shareable(page, run, read_config(run)).encode())
    return out


def read_summary(run: Path) -> dict[str, Any]:
    """A finished run's ``summary.json``. Raises UserError if it is missing or damaged."""
    if not run.is_dir():
        raise UserError(f"no run folder at {run}")
    path = run / "summary.json"
    if not path.is_file():
        raise UserError(f"{run} is not a finished run (summary.json not found)")
    remedy = f"`ran resume {as_argument(run)}` rewrites it"
    try:
        summary = parse_json(path.read_bytes(), path)
    except UserError as error:
        raise UserError(f"{error}; {remedy}") from error
    if not isinstance(summary, dict):
        raise UserError(f"{path} is damaged: expected a JSON object; {remedy}")
    return summary
