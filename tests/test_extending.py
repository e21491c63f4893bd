"""Extending takes one file and no change to the package: docs/extending.md as written, and the errors."""

import contextlib
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention import plugins
from residual_attention.attention.choices import READINGS
from residual_attention.checkpoints.card import read_card
from residual_attention.classification.metrics import METRICS
from residual_attention.cli.main import main
from residual_attention.data.sources import SOURCES
from residual_attention.errors import UserError
from residual_attention.family import create_model
from residual_attention.family.choices import MASK_ACTIVATIONS, UNITS, plugins_needed
from residual_attention.training.sections import SECTIONS

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text()
THIN = ["--limit-train", "64", "--epochs", "1", "--min-steps", "0", "--batch-size", "16", "--t", "1"]
THIN += ["--widths", "16", "16", "16", "--mask-depths", "1", "1", "1"]
OPEN = (MASK_ACTIVATIONS, UNITS, SOURCES, READINGS, METRICS, SECTIONS)


@contextlib.contextmanager
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Plugins imported inside, and whatever they register, are removed afterwards."""
    parts = ("_choices", "_things", "_plugins")
    registered = [{part: dict(getattr(choices, part)) for part in parts} for choices in OPEN]
    path, names = list(sys.path), set(plugins._names)
    files, sources = dict(plugins._files), list(plugins._sources)
    try:
        yield
    finally:
        for choices, before in zip(OPEN, registered, strict=True):
            vars(choices).update(before)
        for name, module in list(sys.modules.items()):
            if getattr(module, "__file__", None) in set(plugins._files) - set(files):
                del sys.modules[name]
        plugins._names, plugins._files, plugins._sources = names, files, sources
        sys.path[:] = path


@pytest.fixture
def alone(monkeypatch, tmp_path) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with as_in_a_process_of_its_own():
        yield tmp_path


def write_photo(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder / "photo.png"


def blocks_of(page: str) -> list[tuple[str, str]]:
    return re.findall(r"```(\w+)\n(.*?)```", page, flags=re.S)


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> SimpleNamespace:
    """The page executed in an empty folder: files written, commands run. Returns the output by command."""
    folder = tmp_path_factory.mktemp("extending")
    write_photo(folder)
    said = {}
    for language, text in blocks_of(PAGE):
        if language in ("python", "html"):
            name = re.match(r"(?:# |\{# )(\S+\.\w+)", text)[1]
            (folder / name).write_text(text)
            continue
        for line in text.splitlines():
            words = shlex.split(line)
            assert words[0] == "ran"
            extra = THIN if words[1] == "train" else []
            out = io.StringIO()
            with contextlib.chdir(folder), as_in_a_process_of_its_own(), contextlib.redirect_stdout(out):
                assert main([*words[1:], *extra]) == 0, line
            said[line] = out.getvalue()
    return SimpleNamespace(folder=folder, said=said)


def said(worked: SimpleNamespace, start: str) -> str:
    (found,) = [text for line, text in worked.said.items() if line.startswith(start)]
    return found


def test_every_recipe_is_one_file_and_a_template(worked):
    files = {path.name for path in worked.folder.iterdir() if path.is_file()} - {"photo.png"}
    assert files == {f"{name}.py" for name in ("hard", "separable", "stripes", "peak", "kappa", "confused")} | {
        "confused.html.j2"
    }
    assert len(worked.said) == sum(text.count("\n") for language, text in blocks_of(PAGE) if language == "sh")


def test_a_registered_mask_activation_is_trained_loaded_and_drawn(worked):
    assert (worked.folder / "attention" / "photo.png").is_file()
    card = read_card(worked.folder / "runs" / "hard" / "checkpoints" / "best.safetensors")
    assert list(card.plugins) == ["hard.py"]
    assert "%" in said(worked, "ran predict runs/hard")


def test_a_registered_unit_is_counted_and_trained(worked):
    own = said(worked, "ran models attention56_cifar").splitlines()[1].split()
    assert int(own[1].replace(",", "")) != 1_148_826
    summary = json.loads((worked.folder / "runs" / "separable" / "summary.json").read_text())
    assert summary["status"] == "done"


def test_a_registered_data_set_is_trained_on_and_evaluated(worked):
    assert "stripes, test: 100 images of 2 classes" in said(worked, "ran eval runs/stripes")
    summary = json.loads((worked.folder / "runs" / "stripes" / "summary.json").read_text())
    assert (summary["data"], summary["train"]["images"], summary["val"]["images"]) == ("stripes", 64, 40)


def test_a_registered_reading_is_drawn(worked):
    assert "photo.png" in said(worked, "ran attend runs/stripes")


def test_a_registered_metric_is_printed(worked):
    value = float(re.search(r"kappa (\S+)", said(worked, "ran eval attention56_cifar.digits"))[1])
    assert 0.9 < value < 1


def test_a_registered_section_appears_in_the_report(worked):
    page = (worked.folder / "runs" / "stripes" / "report.html").read_text()
    assert "<h2>Most confused</h2>" in page
    test = json.loads((worked.folder / "runs" / "stripes" / "summary.json").read_text())["test"]
    (_, wrong), (other, _) = test["confusion"]
    assert (f"<li>across taken for down: {wrong} images</li>" in page) == (wrong > 0)
    assert (f"<li>down taken for across: {other} images</li>" in page) == (other > 0)
    assert "failed" not in page


def in_a_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "residual_attention", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_without_its_plugin_a_model_says_which_and_how(worked):
    done = in_a_process(worked.folder, "predict", "runs/hard", "photo.png")
    assert (done.returncode, done.stdout) == (2, "")
    expected = "runs/hard needs the plugin hard.py: pass its file or module with --plugin (in Python, import it first)"
    assert done.stderr == f"ran: error: {expected}\n"
    for plugin in ("hard.py", "hard", "./hard.py"):  # a file, or a module of the working folder
        done = in_a_process(worked.folder, "predict", f"--plugin={plugin}", "runs/hard", "photo.png")
        assert done.returncode == 0, done.stderr


def test_a_data_set_whose_plugin_is_missing_says_so(worked, monkeypatch, capsys):
    monkeypatch.chdir(worked.folder)
    assert main(["eval", "runs/stripes"]) == 2
    assert "a plugin's data set needs --plugin" in capsys.readouterr().err


def test_an_exported_network_needs_its_plugin_only_for_what_masks_mean(worked, alone, capsys):
    best, photo = str(worked.folder / "runs" / "hard"), str(worked.folder / "photo.png")
    plugin = ["--plugin", str(worked.folder / "hard.py")]
    with as_in_a_process_of_its_own():
        assert main(["export", best, "hard.onnx", "--masks", *plugin]) == 0
    assert main(["predict", "hard.onnx", photo]) == 0
    assert main(["attend", "hard.onnx", photo, *plugin]) == 0
    with as_in_a_process_of_its_own():
        plugins._names.discard("hard.py")
        assert main(["attend", "hard.onnx", photo]) == 2
    assert "needs the plugin hard.py" in capsys.readouterr().err


# Names


def test_a_name_belongs_to_one_object(alone):
    from residual_attention import register_mask_activation

    class Mine(torch.nn.Sigmoid):
        pass

    for taken in ("mixed", "channel"):
        with pytest.raises(UserError, match=f"mask_activation '{taken}' already exists in the package"):
            register_mask_activation(taken)(Mine)
    register_mask_activation("mine")(Mine)
    register_mask_activation("mine")(Mine)
    with pytest.raises(UserError, match="'mine' already exists in the plugin"):
        register_mask_activation("mine")(torch.nn.Hardsigmoid)
    assert MASK_ACTIVATIONS.value("mine") is Mine


@pytest.mark.parametrize("name", ["", "Hard", "hard sigmoid", "2nd", "hard-sigmoid", None])
def test_a_name_is_a_lower_case_identifier(name):
    from residual_attention import register_reading

    with pytest.raises(UserError, match="lower-case letters"):
        register_reading(name)(lambda mask, contribution: mask)


def test_a_module_may_be_imported_again(alone):
    (alone / "again.py").write_text(
        "from residual_attention import register_reading\n\n\n"
        "@register_reading('again')\ndef again(mask, contribution):\n    return mask[:, 0]\n"
    )
    for given in ("again.py", "again", "again.py"):
        plugins.load_plugin(given)
    importlib.reload(sys.modules["again"])
    assert READINGS.value("again") is sys.modules["again"].again
    assert READINGS.plugin_of("again") == "again"


def test_what_is_registered_must_be_a_class(alone):
    from residual_attention import register_mask_activation, register_unit

    for register in (register_mask_activation, register_unit):
        with pytest.raises(UserError, match=r"must be a torch\.nn\.Module class, not function"):
            register("mine")(lambda x: x)


def test_a_unit_may_make_the_whole_network_and_ask_for_widths(alone):
    from residual_attention import register_unit
    from residual_attention.family.units import ConvBNReLU

    @register_unit("whole", everywhere=True, preact=False)
    class Whole(ConvBNReLU):
        divisor = 24

        def __init__(self, in_chs: int, out_chs: int, stride: int = 1) -> None:
            super().__init__(in_chs, out_chs, 3, stride)

    thin = {"unit": "whole", "modules": 1, "final_width": 24}
    model = create_model("attention56_cifar", widths=(24, 24, 48), **thin)
    assert sum(isinstance(m, Whole) for m in model.modules()) == 6 + 3 * 4 + (8 + 5 + 2)  # stages, modules, masks
    assert isinstance(model.norm, torch.nn.Identity)
    with pytest.raises(UserError, match="multiples of 24 for unit=whole"):
        create_model("attention56_cifar", widths=(24, 24, 32), **thin)


def test_plugins_needed_are_those_of_the_overrides(alone):
    from residual_attention import register_mask_activation

    register_mask_activation("mine")(torch.nn.Hardsigmoid)
    needed = plugins_needed({"mask_activation": "mine", "unit": "vgg"})
    assert needed == (__name__,)
    plugins.require(needed)
    with pytest.raises(UserError, match=r"the run needs the plugin other\.py"):
        plugins.require(("other.py",), "the run")


# Errors


def refused(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "bug" not in line
    return line


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x = 1\ny = z\n", "--plugin broken.py: broken.py, line 2: NameError: name 'z' is not defined"),
        ("x = 1\n\ny = (\n", "--plugin broken.py: broken.py, line 3: '(' was never closed"),
        ("import no_such_package\n", "broken.py, line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        (
            "from residual_attention import register_unit\n\n\n@register_unit('vgg')\nclass Unit:\n    pass\n",
            "broken.py, line 4: unit 'vgg' already exists in the package; choose another name",
        ),
        (
            "from residual_attention import register_report_section\n"
            "register_report_section('mine', template='none.j2')(lambda run, summary: {})\n",
            "not found",
        ),
    ],
)
def test_an_error_in_a_plugin_is_one_line_with_its_location(alone, capsys, text, expected):
    (alone / "broken.py").write_text(text)
    assert expected in refused(capsys, "models", "attention56_cifar", "--plugin", "broken.py")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--plugin", "missing.py"], "--plugin missing.py: no such file"),
        (["--plugin", "no_such.module"], "--plugin no_such.module: no such module in the environment"),
        (["--plugin", ".relative"], "no such module"),
        (["--plugin"], "--plugin needs a Python file or a module name"),
        (["--plugin="], "--plugin needs a Python file or a module name"),
        (["--plugin", "--json"], "--plugin needs a Python file or a module name"),
        (["--plugin", "json.py"], "another module is named json; rename the file"),
        (["--mask-activation", "mixd"], "not 'mixd' (did you mean mixed?)"),
    ],
)
def test_a_missing_plugin_or_name_is_one_line(alone, capsys, arguments, expected):
    (alone / "json.py").write_text("")
    assert expected in refused(capsys, "models", "attention56_cifar", *arguments)


def test_a_plugin_that_fails_later_is_not_taken_for_a_bug(alone, capsys):
    (alone / "late.py").write_text(
        "import torch\nfrom residual_attention import register_unit\n\n\n@register_unit('late')\n"
        "class Late(torch.nn.Module):\n    def __init__(self, in_chs, out_chs, stride=1):\n        super().__init__()\n"
        "        torch.zeros(2) + torch.zeros(3)\n"
    )
    line = refused(capsys, "models", "attention56_cifar", "--plugin", "late.py", "--unit", "late")
    assert "plugin late.py, line 9: RuntimeError: " in line


def test_plugins_are_named_before_or_after_the_command(alone, capsys):
    (alone / "one.py").write_text("")
    assert main(["--plugin", "one.py", "models", "attention56_cifar", "--plugin=one"]) == 0
    assert "attention56_cifar" in capsys.readouterr().out
    assert plugins.loaded() == [str(alone / "one.py"), "one"]


def test_a_section_that_fails_says_so_and_leaves_the_report(worked, alone, capsys):
    (alone / "sections.py").write_text(
        "from residual_attention import register_report_section\n\n\n"
        "@register_report_section('a_first')\ndef first(run, summary):\n    return f'<b>{summary[\"model\"]}</b>'\n\n\n"
        "@register_report_section('b_none')\ndef none(run, summary):\n    return None\n\n\n"
        "@register_report_section('c_last')\ndef last(run, summary):\n    return summary['<no>']\n"
    )
    run = worked.folder / "runs" / "separable"
    assert main(["report", str(run), "--plugin", "sections.py"]) == 0
    page, err = (run / "report.html").read_text(), capsys.readouterr().err
    assert "<h2>A first</h2>\n<b>attention56_cifar</b>" in page
    assert "B none" not in page
    assert "the section &#x27;c_last&#x27; failed: sections.py, line 16: KeyError: &#x27;&lt;no&gt;&#x27;" in page
    assert err == "ran: the section 'c_last' failed: sections.py, line 16: KeyError: '<no>'\n"


def test_an_error_in_a_template_is_reported_with_its_location(worked, alone, capsys):
    (alone / "wrong.j2").write_text("<p>\n{% for true in [] %}{% endfor %}\n")
    (alone / "template.py").write_text(
        "from residual_attention import register_report_section\n\n\n"
        "@register_report_section('wrong', template='wrong.j2')\ndef wrong(run, summary):\n    return {}\n"
    )
    assert main(["report", str(worked.folder / "runs" / "separable"), "--plugin", "template.py"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "ran: the section 'wrong' failed: wrong.j2, line 2: can't assign to 'const'"


def test_help_lists_what_a_plugin_adds(alone, capsys):
    (alone / "listed.py").write_text(
        "from torch import nn\nfrom residual_attention import register_mask_activation\n\n"
        "register_mask_activation('listed', text='of straight lines')(nn.Hardsigmoid)\n"
    )
    with pytest.raises(SystemExit):
        main(["train", "--help", "--plugin", "listed.py"])
    text = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "{mixed,channel,spatial,listed}" in text
    assert "listed: of straight lines" in text
    assert "--plugin MODULE_OR_FILE" in text


def test_measured_figures_hold_a_registered_metric(alone):
    from residual_attention import register_metric
    from residual_attention.classification.measures import classification_measures

    probabilities, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert "metrics" not in classification_measures(probabilities, labels, ["a", "b", "c"])
    register_metric("hits")(lambda p, y: (p.argmax(1) == y).sum())
    assert classification_measures(probabilities, labels, ["a", "b", "c"])["metrics"] == {"hits": 2.0}
