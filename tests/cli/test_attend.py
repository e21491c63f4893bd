"""``ran attend`` and ``ran report`` on a real small run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual_attention.classification.report import write_comparison
from residual_attention.cli.main import main


def fails(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return err.strip().splitlines()[-1]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A wide digit-like picture, two with the same name, and a file that is not an image."""
    folder = tmp_path / "pictures"
    (folder / "3").mkdir(parents=True)
    stroke = np.zeros((40, 70), np.uint8)
    stroke[8:32, 30:36] = 255
    Image.fromarray(stroke).save(folder / "wide.png")
    Image.fromarray(stroke).convert("RGB").save(folder / "3" / "wide.jpg")
    (folder / "text.png").write_text("no image")
    return folder


def test_figures_arrays_and_a_sheet_for_each_image(finished, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        ["attend", str(finished), str(pictures), "--out", str(out), "--save-arrays", "--before-after", "--json"]
    )
    answer, err = capsys.readouterr()
    assert code == 2  # text.png
    assert "text.png" in err
    found = json.loads(answer)
    assert [Path(image["path"]).name for image in found["images"]] == ["wide.jpg", "wide.png"]
    names = sorted(path.name for path in out.glob("[!.]*"))
    kinds = (".png", ".npz", "-before-after.png")
    assert names == sorted([f"wide{number}{kind}" for number in ("", "-2") for kind in kinds] + ["sheet.png"])
    arrays = np.load(out / "wide.npz")
    assert arrays["stages.0.1"].ndim == 3
    assert arrays["logits"].shape == (10,)
    assert set(found["images"][0]["masks"]) == set(arrays) - {"logits"}
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 150


@pytest.mark.parametrize("reading", [["--reading", "class"], ["--reading", "excited"], ["--channel", "3"]])
def test_readings_draw(finished, pictures, tmp_path, reading, capsys):
    assert main(["attend", str(finished), str(pictures / "wide.png"), "--out", str(tmp_path / "o"), *reading]) == 0
    assert "wide.png" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "o").glob("[!.]*")] == ["wide.png"]


@pytest.fixture
def few_steps(monkeypatch):
    """The measures' curves and integrals in two steps: their values are tested elsewhere."""
    monkeypatch.setattr("residual_attention.attention.peers.IG_STEPS", 2)
    monkeypatch.setattr("residual_attention.attention.faithfulness.STEPS", 2)


def test_measures_on_a_data_set(finished, few_steps, tmp_path, capsys):
    pytest.importorskip("captum")
    out = tmp_path / "m"
    assert main(["attend", str(finished), "digits", "--measure", "--limit", "6", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "measures.json").read_text())
    assert result["images"] == 6
    assert {"Grad-CAM", "centre prior", "random", "class, combined", "mean, stages.2.1"} <= set(result["methods"])
    expected = {"deletion_auc", "insertion_noise_auc", "class_sensitivity", "weight_dependence"}
    assert all(expected <= set(found) for found in result["methods"].values())
    assert "energy_in_box" not in result["methods"]["random"]
    assert result["methods"]["centre prior"]["class_sensitivity"]["mean"] == pytest.approx(1, abs=1e-5)
    assert result["agreement"]["deletion_auc"]["deletion_auc"] == 1
    assert "Grad-CAM" in printed
    assert sorted(path.name for path in out.glob("[!.]*")) == ["measures.csv", "measures.json", "measures.png"]


def test_measures_with_boxes(finished, few_steps, pictures, tmp_path, capsys):
    pytest.importorskip("captum")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"3/wide.jpg": [[28, 6, 38, 34]]}))
    arguments = [
        "attend",
        str(finished),
        str(pictures),
        "--measure",
        "--boxes",
        str(boxes),
        "--out",
        str(tmp_path / "m"),
    ]
    assert main([*arguments, "--beside", str(finished), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["networks"] == 2
    for found in result["methods"].values():
        assert 0 <= found["energy_in_box"]["mean"] <= 1
        assert found["pointing_game"]["mean"] in (0, 1)
    assert result["methods"]["centre prior"]["pointing_game"]["mean"] == 1


def test_responses_of_two_networks(finished, tmp_path, capsys):
    arguments = [
        "attend",
        str(finished),
        "digits",
        "--response",
        "--out",
        str(tmp_path / "r"),
        "--json",
    ]
    assert main([*arguments, "--beside", str(finished / "checkpoints" / "last.safetensors")]) == 0
    found = json.loads(capsys.readouterr().out)["responses"]
    assert len(found) == 2
    for values in found.values():
        assert list(values) == ["stage 1", "stage 2", "stage 3", "final"]
        assert all(value > 0 for value in values.values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no image or data set given"),
        (["nothing.png"], "no image at nothing.png"),
        (["x.png", "--channels", "1"], "--channels needs --before-after"),
        (["a", "b", "--measure"], "takes one data set"),
        (["a", "--boxes", "b.json"], "--boxes needs --measure"),
        (["a", "--measure", "--response"], "give one"),
        (["a", "--measure", "--boxes", "b.json"], "DATA must be a folder"),
        (["digits", "--measure", "--limit", "1"], "limit at least 2"),
    ],
)
def test_wrong_calls_are_one_line(finished, capsys, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "attend", str(finished), *arguments)


def test_a_channel_that_no_module_or_only_some_have(finished, pictures, tmp_path, capsys):
    image = str(pictures / "wide.png")
    line = fails(capsys, "attend", str(finished), image, "--channel", "99", "--out", str(tmp_path / "a"))
    assert "channel must lie between 0 and 63" in line
    assert main(["attend", str(finished), image, "--channel", "40", "--out", str(tmp_path / "b")]) == 0


def test_an_image_called_sheet_keeps_its_figure(finished, pictures, tmp_path, capsys):
    (pictures / "wide.png").rename(pictures / "sheet.png")
    arguments = [
        "attend",
        str(finished),
        str(pictures / "sheet.png"),
        str(pictures / "3"),
        "--out",
        str(tmp_path / "a"),
    ]
    assert main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "a").glob("[!.]*")) == ["sheet-2.png", "sheet.png", "wide.png"]


def test_boxes_that_the_crop_cuts_away(finished, pictures, tmp_path, capsys):
    pytest.importorskip("captum")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"3/wide.jpg": [0, 0, 3, 3]}))
    line = fails(capsys, "attend", str(finished), str(pictures), "--measure", "--boxes", str(boxes))
    assert "nothing to measure" in line


def test_report_is_written_anew_and_asks_for_nothing(finished, capsys):
    page = finished / "report.html"
    page.unlink()
    assert main(["report", str(finished)]) == 0
    text = page.read_text()
    assert "Worst mistakes" in text
    assert "Calibration" in text
    assert "data:image/png;base64," in text
    assert not re.search(r"(src|href)=.(?!data:)|url\(|@import", text)


def test_several_runs_on_one_page(finished, tmp_path, capsys):
    out = tmp_path / "pages" / "both.html"
    assert main(["report", str(finished), str(finished), "--out", str(out)]) == 0
    text = out.read_text()
    assert "2 runs compared" in text
    assert text.count("data:image/png;base64,") == 2  # the curves, for wide and for narrow screens
    assert text.count("data:image/jpeg;base64,") == 2 * 8
    assert text.count("\u00a0to\u00a0") == 4  # the intervals of validation and test
    assert "Settings that differ" not in text
    with pytest.raises(ValueError, match="no run folder"):
        write_comparison([finished, tmp_path / "none"], out)


@pytest.mark.parametrize("arguments, message", [([], "no run given"), (["none"], "no run folder at none")])
def test_wrong_reports_are_one_line(capsys, arguments, message):
    assert message in fails(capsys, "report", *arguments)


def test_damaged_summaries_are_reported(tmp_path, capsys):
    (tmp_path / "summary.json").write_text("{")
    assert "is not valid JSON" in fails(capsys, "report", str(tmp_path))
