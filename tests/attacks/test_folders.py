"""``--out`` over folders of others: nothing of theirs is overwritten or deleted."""

import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from residual_attention.atomic import remove_leftovers, write_atomically
from residual_attention.cli.main import main
from residual_attention.errors import UserError
from residual_attention.own_files import OwnFiles
from residual_attention.training.runfolder import RunFolder

MODEL = "attention56_cifar.digits"


def digest(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` by its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A user's folder with files of the names that a run writes."""
    folder = tmp_path / "theirs"
    (folder / "examples").mkdir(parents=True)
    for name in ("config.yaml", "summary.json", "metrics.csv", "report.html", ".notes.tmp", "examples/mine.png"):
        (folder / name).write_text(f"mine: {name}")
    return folder


@pytest.mark.parametrize("command", [["train", "digits"], ["detect", "train", "nowhere"]])
def test_a_run_does_not_begin_in_a_folder_of_others(theirs, capsys, command):
    before = digest(theirs)
    assert main([*command, "--out", str(theirs)]) == 2
    assert digest(theirs) == before
    if command[0] == "train":
        assert "is not empty and is not a run" in capsys.readouterr().err


def test_a_folder_with_checkpoints_of_others_is_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch-3.pt").write_text("theirs")
    with pytest.raises(UserError, match="not empty and is not a run"):
        RunFolder(tmp_path).create()
    assert (tmp_path / "checkpoints" / "epoch-3.pt").read_text() == "theirs"


def test_a_run_that_was_killed_before_its_first_save_can_begin_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_text(folder.config, "seed: 0\n")
    (folder.checkpoints / ".last.safetensors.123.tmp").write_bytes(b"half")
    folder.create()
    with folder.locked():
        assert not list(folder.checkpoints.iterdir())


def test_only_leftovers_of_our_own_saves_are_deleted(tmp_path):
    for name in (".report.html.17.tmp", ".report.html.tmp", ".report.html.x.tmp", ".mine.3.tmp"):
        (tmp_path / name).write_text(name)
    remove_leftovers(tmp_path / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {".report.html.tmp", ".report.html.x.tmp", ".mine.3.tmp"}


def test_empty_arguments_are_errors(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["train", "digits", "--out", ""], ["train", "digits", "--out="], ["predict", MODEL, ""]):
        assert main(arguments) == 2
        assert "is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_our_files_are_replaced_and_those_of_others_are_not(tmp_path):
    (tmp_path / "theirs.png").write_text("theirs")
    own = OwnFiles(tmp_path)
    own.take("ours.png").write_text("first")
    again = OwnFiles(tmp_path)
    again.take("ours.png").write_text("second")
    with pytest.raises(UserError, match=r"theirs\.png exists and was not written by this command"):
        again.take("theirs.png")
    again.remove_all()
    assert (tmp_path / "theirs.png").read_text() == "theirs"
    assert not (tmp_path / "ours.png").exists()


def test_a_list_that_was_tampered_with_deletes_nothing_elsewhere(tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_text("theirs")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".ran-files.json").write_text('["../outside.png", "a/../../outside.png"]')
    OwnFiles(folder).remove_all()
    assert outside.exists()


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (20, 20), (200, 30, 30)).save(path)
    return path


def test_attend_numbers_a_figure_rather_than_replace_a_file_of_others(photo, tmp_path, capsys):
    out = tmp_path / "figures"
    out.mkdir()
    (out / "photo.png").write_text("theirs")
    for _ in range(2):
        assert main(["attend", MODEL, str(photo), "--out", str(out)]) == 0
    assert (out / "photo.png").read_text() == "theirs"
    assert {path.name for path in out.iterdir()} == {"photo.png", "photo-2.png", ".ran-files.json"}


@pytest.mark.parametrize("out", ["attention", "class0"])
def test_attend_never_writes_into_the_data(photo, tmp_path, capsys, monkeypatch, out):
    data = tmp_path / "data"
    for name in ("class0", "class1"):
        (data / name).mkdir(parents=True)
        os.link(photo, data / name / "photo.png")
    monkeypatch.chdir(data)
    before = digest(data)
    arguments = [] if out == "attention" else ["--out", out]
    assert main(["attend", MODEL, ".", *arguments]) == 2
    assert "is inside the data folder" in capsys.readouterr().err
    assert digest(data) == before


def test_a_kill_while_pictures_are_listed_leaves_nothing_behind(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.path / "examples").mkdir()
    left = [folder.path / ".problems.txt.7.tmp", folder.path / "examples" / "..ran-files.json.7.tmp"]
    theirs = folder.path / "examples" / ".notes.7.tmp"
    for path in (*left, theirs):
        path.write_text("half")
    with folder.locked():
        assert not any(path.exists() for path in left)
    assert theirs.exists()


def test_an_error_of_writing_names_the_file_that_was_asked_for(tmp_path):
    wanted = tmp_path / "missing" / "table.csv"
    with pytest.raises(OSError) as raised:
        write_atomically(wanted, b"")
    assert raised.value.filename == str(wanted)
