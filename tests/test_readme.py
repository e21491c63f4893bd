"""What the README says is run, and what it shows is current."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.checkpoints import list_weights
from residual_attention.cli.arguments import parse
from residual_attention.cli.main import COMMANDS
from residual_attention.cli.train import configuration

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_tables_are_current():
    done = subprocess.run([sys.executable, ROOT / "tools" / "update_docs.py", "--check"])
    assert done.returncode == 0, "run `python tools/update_docs.py`"


def test_pictures_and_links_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for target in re.findall(r"\]\(#([^)]+)\)", README):
        assert f"## {target}" in README.lower()


@pytest.mark.skipif(not list_weights(), reason="no weights ship yet")
def test_the_python_example_runs(tmp_path):
    (code,) = blocks("python")
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "photo.jpg")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stages.0.1 (1, 64, 32, 32)" in done.stdout


def test_the_detection_pages_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "detection.md").read_text(), flags=re.S)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line, shown in zip(done.stdout.splitlines(), re.findall(r"\) +# (\[.*)", code), strict=True):
        assert line == shown


def test_shell_examples_name_what_exists():
    makefile = (ROOT / "Makefile").read_text()
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    checked = 0
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert f"\n{words[1]}:" in makefile
        elif "train" in words[:1] + words[1:2] or "residual_attention" in words:
            configuration(words[words.index("train") + 1 :])
        elif words[:1] == ["ran"]:
            assert words[1] in COMMANDS
            module = importlib.import_module(f"residual_attention.cli.{words[1]}")
            own = words[1:3] if words[1] == "detect" else words[1:2]  # `ran detect` has commands of its own
            name = "".join(word.title() for word in own) + "Arguments"
            if own[1:] or hasattr(module, name):
                parse(getattr(module, name), words[1 + len(own) :], prog=f"ran {' '.join(own)}", description="")
        checked += bool(words)
    assert checked >= 15
