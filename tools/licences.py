"""Write ``docs/dependencies.md``: every package that ``make install`` brings, its version and licence.

    python tools/licences.py [--check]

Licences are what each package declares in its own metadata; ``--check`` fails where the page is out of date.
"""

import argparse
import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "dependencies.md"
HEAD = """# Dependencies and their licences

Every package that `make install` brings, with its version and the licence that it declares.
`python tools/licences.py` writes this page from the packages' own metadata.

Floors in `pyproject.toml` exclude releases with known advisories: gradio below 6.16, pillow below 12.1.1, jinja2 below
3.1.6, filelock below 3.20.3, scikit-learn below 1.5.

| package | version | licence | of |
|---|---|---|---|
"""
KNOWN = (  # words in a licence's text, and its SPDX name
    (r"apache.*2", "Apache-2.0"),
    (r"mozilla.*2", "MPL-2.0"),
    (r"nvidia", "NVIDIA proprietary"),
    (r"(3|three).?clause|new bsd", "BSD-3-Clause"),
    (r"(2|two).?clause|simplified", "BSD-2-Clause"),
    (r"python software foundation|psf", "PSF-2.0"),
    (r"\bmit\b", "MIT"),
    (r"\bisc\b", "ISC"),
    (r"\bbsd\b", "BSD"),
    (r"apache", "Apache-2.0"),
)


def licence_of(found: Distribution) -> str:
    """The SPDX expression, or else the short licence field, or else the classifiers."""
    metadata: Any = found.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classified = [line.split("::")[-1].strip() for line in metadata.get_all("Classifier", []) if "License ::" in line]
    declared = (metadata.get("License") or "").strip()
    for text in (declared.splitlines()[0] if declared else "", *classified):
        for pattern, name in KNOWN:
            if text and re.search(pattern, text, re.I):
                return name
    return (declared.splitlines() or classified or ["not declared"])[0][:60]


def requirements() -> dict[str, list[str]]:
    """Direct requirements by extra; the core's under an empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def rows() -> list[tuple[str, str, str, str]]:
    found: dict[str, tuple[str, str, str, str]] = {}
    for extra, wanted in requirements().items():
        waiting = [Requirement(text) for text in wanted]
        while waiting:
            requirement = waiting.pop()
            name = canonicalize_name(requirement.name)
            if name in found or name == "residual-attention":
                continue
            try:
                package = distribution(name)
            except PackageNotFoundError:  # of another platform, or of an extra that is not installed here
                continue
            found[name] = (name, package.version, licence_of(package), extra or "core")
            asked = {"", *requirement.extras}
            for text in package.requires or []:
                nested = Requirement(text)
                if nested.marker is None or any(nested.marker.evaluate({"extra": name}) for name in asked):
                    waiting.append(nested)
    return sorted(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    given = parser.parse_args()
    page = HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows())
    if given.check:
        return 0 if PAGE.is_file() and PAGE.read_text() == page else 1
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
