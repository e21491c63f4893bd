"""MkDocs hook: repository files outside ``docs/`` become pages of the site, with working links.

GitHub and the site show the same file; nothing is copied by hand. A file's address on the site is its path in the
repository, without a leading ``docs/``; the README is the site's first page.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # type: ignore[import-not-found] (extra docs)

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "src/residual_attention/weights"
SHOWN = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    f"{WEIGHTS}/README.md",
    "notebooks/*.ipynb",
    "results/*.md",
    "results/*.png",
    "results/reproduce/*/*.md",
    "results/reproduce/*/*.png",
)
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")  # [text](target#anchor), but no URL with a scheme


def site_path(path: str) -> str:
    """The site address of a repository file, both relative to their roots."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/").removeprefix("src/residual_attention/")


def repository_path(page: str) -> str:
    """Inverse of `site_path`, for pages."""
    if page == "index.md":
        return "README.md"
    return next((p for p in (page, f"src/residual_attention/{page}") if (ROOT / p).is_file()), f"docs/{page}")


def with_site_links(markdown: str, page: str) -> str:
    """The page's text, with links between repository files turned into links between pages of the site."""
    folder = posixpath.dirname(repository_path(page))

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if (ROOT / target).is_dir():
            target = f"{target}/README.md"
        return f"{link[1]}{posixpath.relpath(site_path(target), posixpath.dirname(page) or '.')}{link[3]}"

    return LINK.sub(moved, markdown)


def on_files(files: Files, config: Any) -> Files:
    """Called by MkDocs with the files in ``docs/``."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            place = site_path(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs with the text of each page."""
    return with_site_links(markdown, page.file.src_uri)
