"""The site: pages outside ``docs/`` keep their links, the build is strict and fetches nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def test_every_folder_is_on_the_architecture_page():
    """The architecture page names each folder of the package, in the diagram and in the text."""
    drawing, text = ((ROOT / "docs" / f"architecture.{kind}").read_text() for kind in ("svg", "md"))
    for folder in (ROOT / "src" / "residual_attention").iterdir():
        if (folder / "__init__.py").is_file():
            assert f">{folder.name}<" in drawing, folder.name
            assert f"`{folder.name}/`" in text, folder.name


def test_files_that_the_drawing_names_exist():
    drawing = (ROOT / "docs" / "architecture.svg").read_text()
    named = re.findall(r'class="code"[^>]*>([\w/]+\.py)<', drawing)
    assert len(named) == 12
    for name in named:
        assert (ROOT / "src" / "residual_attention" / name).is_file(), name


def test_links_between_pages_follow_them_to_the_site(monkeypatch):
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(ROOT / "tools")
    from docs_site import with_site_links

    assert with_site_links("[a](docs/masks.md#measured)", "index.md") == "[a](masks.md#measured)"
    assert with_site_links("[a](../results/README.md)", "results.md") == "[a](results/README.md)"
    assert with_site_links("[a](../docs/speed.md)", "results/README.md") == "[a](../speed.md)"
    assert with_site_links("![a](class/sheet.jpg)", "masks.md") == "![a](class/sheet.jpg)"
    assert with_site_links("[a](https://arxiv.org/abs/1)", "masks.md") == "[a](https://arxiv.org/abs/1)"
    cards = "src/residual_attention/weights/README.md"
    assert with_site_links(f"[a]({cards})", "index.md") == "[a](weights/README.md)"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built like `make docs`; a dead link fails."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_without_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 20
    for page in pages:
        assert not FETCHED.findall(page.read_text()), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_the_api_page_shows_every_public_name(site):
    page = (site / "api.html").read_text()
    source = (ROOT / "src/residual_attention/__init__.py").read_text()
    names = [name for name in re.findall(r'^ {4}"(\w+)",$', source, flags=re.M) if name != "__version__"]
    assert len(names) >= 7
    for name in names:
        assert f'id="residual_attention.{name}"' in page, name
