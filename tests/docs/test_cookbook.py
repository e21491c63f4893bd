"""The cookbook's recipes run, in order and in one folder, on a few small images."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.cli.main import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
COOKBOOK = (DOCS / "cookbook.md").read_text()
TRAINED = "--image-size 32 --steps 2 --limit-train 6 --batch-size 3 --precision fp32 --workers 0"
SHORT = {"train": shlex.split(TRAINED), "resume": shlex.split("--epochs 2 --workers 0")}  # as shown, but shorter
THIN = shlex.split("--widths 16 16 16 --mask-depths 1 1 1 --t 1")  # unless the network is that of --init
ELSEWHERE = {"detect": "tests/detection", "--int8": "tests/export"}  # slow commands, tested there


def commands() -> list[list[str]]:
    shown = "\n".join(re.findall(r"```sh\n(.*?)```", COOKBOOK, flags=re.S)).splitlines()
    words = [shlex.split(line, comments=True) for line in shown]
    return [words[1:] for words in words if words[:1] == ["ran"] and not ELSEWHERE.keys() & set(words)]


def shortened(words: list[str]) -> list[str]:
    thin = THIN if words[0] == "train" and "--init" not in words else []
    return [*words, *SHORT.get(words[0], []), *thin]


def python(page: str, folder: Path) -> str:
    """The output of the page's Python block."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.S)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kitchen(tmp_path: Path, write_image_folder: Callable[..., Path], monkeypatch) -> Path:
    """The images that the recipes name, in the working folder."""
    write_image_folder(tmp_path / "photos", classes=2, each=8, size=36)
    write_image_folder(tmp_path / "other_photos", classes=2, each=2, size=50)
    (tmp_path / "new_photos").mkdir()
    for i in range(2):
        Image.effect_mandelbrot((60, 40 + i), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / f"new_photos/{i}.jpg")
    Image.effect_noise((50, 70), 40).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_thirteen_recipes():
    assert len(re.findall(r"^## ", COOKBOOK, flags=re.M)) == 13
    assert len(commands()) >= 20


def test_the_recipes_run(kitchen, capsys):
    """`ran export` needs the extra ``export``; the page for deployment runs what the last recipe left."""
    pytest.importorskip("onnxscript")
    for words in commands():
        assert main(shortened(words)) == 0, f"{' '.join(words)}: {capsys.readouterr().err}"
    for left in (
        "runs/photos/report.html",
        "comparison.html",
        "looked/check.html",
        "runs/folds/report.html",
        "look/photo.png",
        "model.onnx",
        "folder/config.json",
    ):
        assert (kitchen / left).is_file(), left
    assert "class0" in python("cookbook.md", kitchen)
    told, probability = python("deploy.md", kitchen).split()
    capsys.readouterr()
    assert main(["predict", "model.onnx", "photo.jpg", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert told == answer["class"]
    assert float(probability) == pytest.approx(answer["probability"], abs=1e-3)
