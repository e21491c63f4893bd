"""The commands in the README and the docs run, and the tables are current."""

import hashlib
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from residual_attention.checkpoints import list_weights
from residual_attention.checkpoints.card import read_card
from residual_attention.checkpoints.load import WEIGHTS
from residual_attention.classification.evaluate import evaluate_model
from residual_attention.cli.arguments import parse
from residual_attention.cli.main import COMMANDS
from residual_attention.cli.train import configuration

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")),
    WEIGHTS / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
GENERIC = re.compile(r"\.\.\.|\||/eval|TABLE|COMMAND")  # `ran attend ... --measure` shows no single command


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def run(code: str, folder: Path) -> str:
    """The output of the code, with warnings as errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def anchors(page: Path) -> set[str]:
    """The anchors of the page: its headings as GitHub and MkDocs spell them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_tables_are_current():
    done = subprocess.run([sys.executable, ROOT / "tools" / "update_docs.py", "--check"])
    assert done.returncode == 0, "run `python tools/update_docs.py`"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 170


def test_the_figures_of_the_weights_are_of_the_files_that_ship():
    record = json.loads((ROOT / "results" / "weights.json").read_text())
    assert set(record) == set(list_weights())
    for name, told in record.items():
        path = WEIGHTS / f"{name}.safetensors"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"], name
        run, metrics = json.loads((ROOT / f"results/{told['run']}.json").read_text()), read_card(path).metrics
        assert metrics["epoch"] == run["best_epoch"]
        assert metrics["time_s"] <= run["time_s"] + 0.01
        assert metrics["val_error_pct"] == pytest.approx(run["val"]["error_pct"], abs=0.5)  # bf16 against fp32
        assert told["top1_error_pct"] == pytest.approx(run["test"]["error_pct"], abs=0.05)  # fp16 against fp32
    digits = "attention56_cifar.digits"
    assert evaluate_model(digits)["top1_error_pct"] == pytest.approx(record[digits]["top1_error_pct"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_and_links_exist(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        place = page.parent / target if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


@pytest.mark.skipif(not list_weights(), reason="no weights ship yet")
def test_the_python_example_runs(tmp_path):
    (code,) = blocks("python")
    Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "photo.jpg")
    assert "stages.0.1 (1, 64, 32, 32)" in run(code, tmp_path)


def test_the_detection_pages_python_runs(tmp_path):
    (code,) = blocks("python", (ROOT / "docs" / "detection.md").read_text())
    for line, shown in zip(run(code, tmp_path).splitlines(), re.findall(r"\) +# (\[.*)", code), strict=True):
        assert line == shown


def _texts() -> dict[str, str]:
    """Every page that shows commands, and the recorded commands."""
    pages = [page for page in PAGES if page.name != "extending.md"]  # test_extending runs its commands, with plugins
    found = {str(page.relative_to(ROOT)): page.read_text() for page in pages}
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(notebook.read_text())["cells"]
        found[notebook.name] = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for result in (ROOT / "results").glob("*.json"):
        command = json.loads(result.read_text()).get("command", "")
        found[result.name] = "```sh\n" + command.replace("; ", "\n") + "\n```"
    return found


def _lines(text: str) -> list[str]:
    """Lines of shell blocks, and complete commands within the text."""
    shown = "\n".join(blocks("sh", text)).replace("\\\n", " ").splitlines()
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    named = [" ".join(span.split()) for span in re.findall(r"`((?:ran|make) [^`]+)`", prose)]
    return shown + [span for span in named if not GENERIC.search(span)]


def _commands() -> list[Any]:
    found = {}
    for source, text in _texts().items():
        for line in _lines(text):
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if "residual_attention" in words:  # torchrun -m residual_attention
                words = ["ran", *words[words.index("residual_attention") + 1 :]]
            if words[:1] in (["make"], ["ran"]):
                label = f"{source}: {' '.join(words)}"
                found[label] = pytest.param(words, id=label)
    return list(found.values())


@pytest.mark.parametrize("words", _commands())
def test_commands_shown_are_commands_that_exist(words):
    """Names, flags and values; in the README, the docs, the notebooks and the results."""
    makefile = (ROOT / "Makefile").read_text()
    if words[0] == "make":
        assert f"\n{words[1]}:" in makefile
        return
    assert words[1] in (*COMMANDS, "--help", "--version")
    own = words[1:3] if words[1] == "detect" else words[1:2]  # `ran detect` has subcommands
    arguments = words[1 + len(own) :]
    if words[-1] == "--help" or not arguments:  # only the name of a command, within a sentence
        return
    if words[1] == "train":
        configuration(words[2:])
        return
    module = importlib.import_module(f"residual_attention.cli.{words[1]}")
    name = "".join(word.title() for word in own) + "Arguments"
    if own[1:] or hasattr(module, name):
        parse(getattr(module, name), arguments, prog=f"ran {' '.join(own)}", description="")


def test_enough_commands_are_shown():
    assert len(_commands()) >= 120
