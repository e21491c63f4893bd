"""Names of classes and files that break drawings, terminals or file systems."""

import json
import os
import shlex
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.cli.main import main
from residual_attention.data.folders import scan_folder
from residual_attention.errors import UserError
from residual_attention.names import as_argument, one_line, printable
from residual_attention.palette import new_figure, plain_ticks

MODEL = "attention56_cifar.digits"


@pytest.mark.parametrize(
    "name, shown",
    [
        ("plain name", "plain name"),
        ("Gänseblümchen 雛菊 👩‍🌾", "Gänseblümchen 雛菊 👩‍🌾"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("caf\udce9", r"caf\xe9"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
    ],
)
def test_printable_names(name, shown):
    assert printable(name) == shown
    printable(name).encode()


def test_messages_are_one_line():
    assert one_line("a\n  b \x1b[31m") == r"a b \x1b[31m"


@pytest.mark.parametrize("name, what", [("a\nb", "control characters"), (b"caf\xe9", "not valid UTF-8")])
def test_class_names_that_cannot_be_stored_are_refused_before_training(tmp_path, write_image_folder, name, what):
    root = write_image_folder(tmp_path / "data", each=3)
    os.rename(os.fsencode(root / "class01"), os.path.join(os.fsencode(root), os.fsencode(name)))
    with pytest.raises(UserError, match=f"{what}; rename it"):
        scan_folder(root)


@pytest.mark.parametrize("name", [r"$\frac$", "$a_b", "x" * 250, "100 % {x} \\n", "雛菊"])
def test_any_other_name_is_drawn(tmp_path, name):
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_title(name)
    axes.set_xticks([0, 1], [name, "b"])
    axes.plot([0, 1], label=name)
    axes.legend()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 0


@pytest.mark.drawn
def test_a_run_with_such_classes_ends_with_its_pictures(tmp_path, write_image_folder, tiny_config):
    from residual_attention.tasks import train

    root = write_image_folder(tmp_path / "data", each=6, size=20)
    for old, new in (("class00", r"$\frac$"), ("class01", "y" * 250)):
        (root / old).rename(root / new)
    config = tiny_config(data=str(root), limit_train=None, image_size=16, epochs=1, batch_size=4)
    summary = train(config)
    assert "undrawn" not in summary
    assert {path.name for path in (config.out / "examples").iterdir()} >= {".ran-files.json"}
    for name in ("curves.png", "confusion.png", "calibration.png", "attention.png", "report.html"):
        assert (config.out / name).stat().st_size > 0, name


@pytest.mark.drawn
def test_a_drawing_that_fails_costs_nothing_and_is_drawn_later(tmp_path, tiny_config, monkeypatch, capsys):
    import residual_attention.classification.results as results
    from residual_attention.tasks import train

    def fail(*_arguments, **_options):
        raise RuntimeError("no ink")

    config = tiny_config(epochs=1, json=False)
    with monkeypatch.context() as patch:
        patch.setattr(results, "draw_confusion", fail)
        summary = train(config)
    assert summary["undrawn"] == {"confusion.png": "RuntimeError: no ink"}
    assert json.loads((config.out / "summary.json").read_text())["undrawn"]
    assert (config.out / "checkpoints" / "best.safetensors").is_file()
    assert (config.out / "calibration.png").is_file()
    assert "warning: confusion.png could not be made (RuntimeError: no ink)" in capsys.readouterr().out
    assert main(["report", str(config.out)]) == 0
    assert (config.out / "confusion.png").is_file()
    assert "undrawn" not in json.loads((config.out / "summary.json").read_text())


def test_predict_and_attend_go_on_past_any_file_name(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"esc\x1b[2J.png", b"new\nline.png", b"plain.png"):
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            Image.new("RGB", (20, 20), (9, 200, 9)).save(file, format="PNG")
    assert main(["predict", MODEL, str(folder)]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4
    assert "\x1b" not in out
    assert r"caf\xe9.png" in out
    assert main(["attend", MODEL, str(folder), "--out", str(tmp_path / "figures")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"new\nline.png" in out


def test_examples_of_others_in_a_runs_folder_stay(tmp_path):
    import torch

    from residual_attention.classification.results import _save_examples

    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "mine.png").write_text("mine")
    for label in ("first", "second"):
        _save_examples(folder, torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [label])
    assert {path.name for path in folder.iterdir()} == {"mine.png", "0-second.png", ".ran-files.json"}
    assert Path(folder / "mine.png").read_text() == "mine"


def test_a_logarithmic_axis_is_written_in_plain_numbers(tmp_path):
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    axes.set_yticks([1, 2], ["$x$", "b"])
    axes.plot([0.05, 100], [1, 2])
    figure.savefig(tmp_path / "figure.png")
    assert {"0.1", "1", "10", "100"} <= {label.get_text() for label in axes.get_xticklabels()}
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())


def test_a_suggested_command_can_be_pasted():
    assert as_argument("runs/a") == "runs/a"
    assert shlex.split(as_argument("runs/with a 'blank'")) == ["runs/with a 'blank'"]
