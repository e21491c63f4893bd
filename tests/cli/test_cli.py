"""``ran`` as a user types it: output, one-line errors, exit statuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from residual_attention import __version__
from residual_attention.classification.recipes import RECIPES, recipe
from residual_attention.cli.main import COMMANDS, main
from residual_attention.cli.train import configuration

THIN = ["--limit-train", "64", "--batch-size", "16", "--t", "1"]
THIN += ["--widths", "16", "16", "16", "--mask-depths", "1", "1", "1"]


def fails(capsys, *arguments: str) -> str:
    """The single stderr line of a command that must exit with 2."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("ran: error: ")
    return lines[0]


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["train", "--help"], ["models", "--help"]])
def test_help_answers_without_torch(arguments):
    code = (
        "import sys\nfrom residual_attention.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_torch_is_the_only_heavy_package_that_a_prediction_imports(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    code = (
        "import sys\nfrom residual_attention.cli.main import main\n"
        f"assert main(['predict', 'attention56_cifar.cifar10', {str(tmp_path / 'image.png')!r}]) == 0\n"
        "heavy = {'timm', 'torchvision', 'torch._dynamo', 'sympy', 'torchmetrics', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command_and_each_has_its_own(capsys):
    assert main([]) == 0
    listing = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command}" in listing
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"usage: ran {command}" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ran {__version__}\n"


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["trian"], "did you mean train?"),
        (["train", "--batchsize", "3"], "unknown option --batchsize (did you mean --batch-size?)"),
        (["train", "--batch-sise=3"], "did you mean --batch-size?"),
        (
            ["train", "--recipe", "quik"],
            "--recipe must be one of budget, classic, finetune, modern, paper, quick, not 'quik' (did you mean quick?)",
        ),
        (["train", "--unit", "resnet"], "did you mean resnext?"),
        (["train", "--epochs", "many"], "--epochs: invalid value 'many'"),
        (["train", "--epochs", "0"], "epochs must be at least 1"),
        (["train", "--lr", "-1"], "lr must be above 0"),
        (["train", "--val-fraction", "2"], "val_fraction must be between 0 and 0.9"),
        (["train", "--batch-size", "10", "--accumulate", "3"], "is not divisible"),
        (["train", "--schedule", "multistep"], "needs milestones"),
        (["train", "cifar11"], "did you mean cifar10?"),
        (["train", "digits", "more"], "more"),
        (["train", "--model", "attention56_cifa"], "did you mean attention56_cifar?"),
        (["train", "--optimizer", "sgdd"], "did you mean sgd?"),
        (["train", "--image-size", "8"], "at least 16 px"),
        (["train", "--device", "cuda:7"], "device cuda:7"),
        (["train", "--device", "gpu"], "no device named 'gpu'"),
        (["train", "--precision", "fp16"], "fp16 needs a CUDA GPU"),
        (["train", "--init", "nothing"], "no model 'nothing'"),
        (["train", "--widths", "10", "20", "30"], "widths must be multiples of 4"),
        (["train", "imagenet"], "--data-dir"),
        (["resume"], "RUN is missing"),
        (["resume", "/no/such/run"], "no run folder at /no/such/run"),
        (["eval", "/no/such/model"], "no model '/no/such/model'"),
        (["predict"], "MODEL is missing"),
        (["predict", "nothing", "/no/such.png"], "no image at /no/such.png"),
        (["models", "attention57"], "did you mean attention56?"),
        (["models", "attention56", "--image-size", "16"], "at least 32x32 px"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(capsys, monkeypatch, tmp_path, arguments, expected):
    if torch.cuda.is_available() and "cuda" in expected.lower():
        pytest.skip("there is a GPU here")
    monkeypatch.chdir(tmp_path)
    assert expected in fails(capsys, *arguments)
    assert not list(tmp_path.iterdir())  # nothing was started


def test_debug_adds_the_traceback(capsys):
    assert main(["train", "cifar11", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_flags_override_the_recipe():
    config = configuration(
        [
            "cifar10",
            "--recipe",
            "modern",
            "--lr",
            "0.3",
            "--no-flip",
            "--modules",
            "1",
            "2",
            "3",
            "--image-size=48",
            "--ema",
            "0",
        ]
    )
    assert (config.data, config.recipe, config.lr, config.flip) == ("cifar10", "modern", 0.3, False)
    assert (config.modules, config.image_size, config.ema) == ((1, 2, 3), 48, 0.0)
    assert config.label_smoothing == recipe("modern").label_smoothing
    assert configuration(["--flip"]).flip is True
    assert configuration(["--skip", "false"]).skip is False
    assert configuration(["--epochs", "3"]).min_steps == 0
    assert configuration(["--recipe=paper"]).steps == 160_000
    assert configuration(["--recipe", "paper", "--epochs", "2"]).steps is None
    assert configuration(["imagenet", "--recipe", "paper"]).steps == 530_000


@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100", "imagenet", "some/folder"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_command_trains_with_the_recipe_of_its_data(name, data):
    """Only digits are rotated, wherever DATA appears among the flags."""
    expected = recipe(name, data)
    assert configuration([data, "--recipe", name]) == expected
    assert configuration(["--recipe", name, "--seed", "0", data]) == expected
    if name == "quick":
        assert expected.rotation == (10.0 if data == "digits" else 0.0)
        assert configuration([data, "--rotation", "5"]).rotation == 5.0


def test_help_shows_the_defaults_for_the_data(capsys):
    for data, degrees in (("digits", "10.0"), ("cifar10", "0.0")):
        with pytest.raises(SystemExit):
            configuration([data, "--help"])
        text = " ".join(capsys.readouterr().out.replace("│", "").split())
        assert f"Largest random rotation in degrees. (default: {degrees})" in text


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_complete_and_round_trip(name):
    for data in ("digits", "imagenet"):
        config = recipe(name, data)
        assert type(config).from_dict(config.to_dict()) == config
        assert config.recipe == name
    with pytest.raises(ValueError, match=r"unknown configuration key 'batchsize' \(did you mean batch_size\?\)"):
        type(config).from_dict({"batchsize": 3})


def test_models_prints_the_ledger(capsys):
    assert main(["models", "attention56", "attention56_cifar"]) == 0
    out = capsys.readouterr().out
    assert "31,810,728" in out
    assert "6.271" in out
    assert main(["models", "attention56_cifar", "--num-classes", "100", "--p", "2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["num_classes"] == 100
    assert row["trunk_depth"] == 56 + 18


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Digits as files: two images, one of them CMYK, and a file that is not an image."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("pictures")
    images = load_digits().images
    for i, mode in ((3, "L"), (4, "CMYK")):
        picture = Image.fromarray((images[i] * 15.9).astype("uint8")).resize((80, 80)).convert(mode)
        picture.save(folder / f"digit{i}.{'png' if mode == 'L' else 'jpg'}")
    (folder / "broken.png").write_text("no image")
    (folder / "notes.txt").write_text("")
    return folder


def test_predict_takes_files_folders_and_globs(finished, pictures, capsys):
    assert main(["predict", "attention56_cifar.digits", str(pictures / "digit3.png"), "--top-k", "3"]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line.startswith(f"{pictures}/digit3.png   3 ")
    assert line.count("%") == 3
    assert main(["predict", str(finished), str(pictures / "digit?.*"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["path"]).name for row in found] == ["digit3.png", "digit4.jpg"]
    assert sum(top["probability"] for top in found[0]["top"]) <= 1 + 1e-6
    assert found[0]["class"] == found[0]["top"][0]["class"]


def test_predict_writes_a_table_and_sorts_copies(finished, pictures, tmp_path, capsys):
    table, folder = tmp_path / "out.csv", tmp_path / "sorted"
    arguments = [str(pictures), "--csv", str(table), "--sort-into", str(folder), "--tta", "mirror"]
    assert main(["predict", str(finished), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "without mirrored images" in err
    assert "copied 2 images" in err
    assert len(table.read_text().splitlines()) == 4
    assert len(list(folder.rglob("digit*"))) == 2
    assert len(list(pictures.iterdir())) == 4


def test_eval_reports_mirror_images_apart(finished, capsys):
    assert main(["eval", str(finished), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["eval", str(finished), "--tta", "mirror", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1_error_pct"] == plain["top1_error_pct"]
    assert plain["tta"] is None
    assert found["tta"]["top1_error_pct"] > found["top1_error_pct"]  # mirrored digits are no digits
    assert "drop --tta" in fails(capsys, "eval", str(finished), "--ten-crop", "--tta", "mirror")


def test_predict_reports_unreadable_files_and_continues(finished, pictures, capsys):
    assert main(["predict", str(finished), str(pictures)]) == 2
    out, err = capsys.readouterr()
    assert len(out.strip().splitlines()) == 2
    assert [line for line in err.splitlines() if "broken.png: not an image" in line]
    assert "Traceback" not in err


def test_eval_of_own_and_of_other_data(finished, pictures, capsys, tmp_path):
    assert main(["eval", str(finished), "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    summary = json.loads((finished / "summary.json").read_text())
    assert own["top1_error_pct"] == pytest.approx(summary["test"]["error_pct"])
    assert main(["eval", str(finished), "digits", "--split", "val"]) == 0
    assert "digits, val: 143 images of 10 classes" in capsys.readouterr().out
    (tmp_path / "three").mkdir()
    os.link(pictures / "digit3.png", tmp_path / "three" / "a.png")
    message = fails(capsys, "eval", str(finished), str(tmp_path))
    assert "classes that the model does not have: three" in message
    (tmp_path / "three").rename(tmp_path / "3")
    assert main(["eval", str(finished), str(tmp_path)]) == 0
    assert "1 images of 10 classes" in capsys.readouterr().out


def test_train_and_resume_print_json_alone(capsys, tmp_path):
    run = tmp_path / "run"
    assert main(["train", "--epochs", "1", *THIN, "--out", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 1
    assert main(["resume", str(run), "--epochs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2
    assert "already holds a run" in fails(capsys, "train", "--epochs", "1", "--out", str(run))


def test_lines_without_a_terminal_tell_the_story(capsys, tmp_path):
    assert main(["train", "--epochs", "2", *THIN, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    for part in (
        "note: ",
        "epoch 1/2",
        "epoch 2/2",
        "images/s",
        "train  error",
        "test  error",
        "report ",
        "ran predict",
    ):
        assert part in out
    assert "\x1b" not in out


def test_a_bug_is_not_taken_for_a_users_error(capsys, monkeypatch):
    """A ValueError from torch, numpy or ``zip(strict=True)`` inside a command exits with 1 and asks for a report."""

    def broken(_arguments):
        list(zip([1], [1, 2], strict=True))

    monkeypatch.setattr("residual_attention.cli.models.main", broken)
    assert main(["models"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "this is a bug; please report it" in err
    log = Path(err.split("traceback in ")[1].rstrip(")\n"))
    assert "in broken" in log.read_text()
    log.unlink()


def test_help_comes_in_groups_with_the_common_flags_first(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert not stop.value.code
    text = capsys.readouterr().out
    groups = ["common", "data", "network", "optimisation", "augmentation", "machine", "output"]
    places = [text.index(f"{group} options") for group in groups]
    assert places == sorted(places)
    assert "--epochs N " in text
    assert "None" not in text
    common = text[places[0] : places[1]]
    flags = ("model", "recipe", "epochs", "batch-size", "lr", "image-size", "init", "seed", "out", "device")
    assert [common.index(f"--{flag} ") for flag in flags] == sorted(common.index(f"--{flag} ") for flag in flags)
