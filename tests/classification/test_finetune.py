"""A folder of photos starts from the weights that ship; plans and figures are honest on few images."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import residual_attention.training.loop as loop
from residual_attention import load
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.interval import error_cell, error_text, wilson_interval_pct
from residual_attention.classification.report import _headline, _results
from residual_attention.cli.train import configuration
from residual_attention.data.order import steps_per_epoch
from residual_attention.errors import UserError
from residual_attention.tasks import train
from residual_attention.training.plan import repeats_of


def test_a_folder_starts_from_the_weights_that_ship_with_their_network_and_size(write_image_folder, tmp_path):
    folder = write_image_folder(tmp_path / "photos", size=80, each=12)
    config = configuration([str(folder), "--steps", "1", "--workers", "0", "--out", str(tmp_path / "run"), "--json"])
    assert (config.recipe, config.init) == ("finetune", "auto")
    summary = train(config)
    assert (summary["model"], summary["image_size_px"]) == ("attention56_cifar", 64)
    assert "initial weights from attention56_cifar.cifar10; the classifier starts from scratch" in summary["notices"]
    assert any("fewer than 20 training images: class00 (" in notice for notice in summary["notices"])
    held = summary["val"]["images"]
    (unflagged,) = [notice for notice in summary["notices"] if "unlike the training images" in notice]
    assert unflagged.endswith(
        f"that takes 20 validation images, and there are {held}; add images or raise --val-fraction"
    )
    assert load(tmp_path / "run").card.confidence.least_likeness is None
    low, high = summary["test"]["error_interval_pct"]
    assert 0 <= low <= summary["test"]["error_pct"] <= high <= 100


@pytest.mark.parametrize(
    "arguments, recipe",
    [([], "finetune"), (["--init", "none"], "quick"), (["--model", "attention56"], "quick"), (["--t", "1"], "quick")],
)
def test_the_recipe_of_a_folder_depends_on_what_it_starts_from(write_image_folder, tmp_path, arguments, recipe):
    folder = write_image_folder(tmp_path / "photos", each=2)
    assert configuration([str(folder), *arguments]).recipe == recipe


def test_the_rate_of_fine_tuning_follows_the_batch_size(write_image_folder, tmp_path):
    folder = str(write_image_folder(tmp_path / "photos", each=2))
    plain, doubled = configuration([folder]), configuration([folder, "--batch-size", "64"])
    assert doubled.lr == pytest.approx(2 * plain.lr)
    assert configuration([folder, "--batch-size", "64", "--lr", "0.02"]).lr == 0.02


def test_an_exploding_loss_is_reported_once_with_the_fix(tiny_config, monkeypatch, capsys):
    train_step = loop.train_step

    def exploding(job, state, batch):
        result = train_step(job, state, batch).read()
        return SimpleNamespace(read=lambda: replace(result, loss_sum=1e3 * 16 * (result.step > 10)))

    monkeypatch.setattr(loop, "train_step", exploding)
    train(tiny_config(epochs=6, json=False))
    out = capsys.readouterr().out
    assert out.count("warning: the loss has risen") == 1
    assert "--clip-grad 1" in out


def test_the_least_number_of_steps_is_hardly_exceeded():
    config = TrainConfig(epochs=15, min_steps=800, batch_size=128)
    steps = 15 * steps_per_epoch(repeats_of(config, 181) * 181, 128)
    assert 800 <= steps < 800 + 2 * 15


def test_wilsons_interval_is_that_of_the_textbooks():
    assert wilson_interval_pct(0, 10) == pytest.approx((0.0, 27.75), abs=0.01)
    assert wilson_interval_pct(5, 10) == pytest.approx((23.66, 76.34), abs=0.01)


def test_few_images_get_an_interval_and_no_false_decimals():
    part = {"error_pct": 13.04, "images": 23, "error_interval_pct": [4.5, 32.1], "balanced_error_pct": 13.1}
    assert error_text(part) == " 13.0 % (95 %: 4 to 32)"
    assert error_text({**part, "balanced_error_pct": 20.5}).endswith(", 20.5 % balanced over classes")
    assert error_text({**part, "images": 10_000}) == " 13.04 %"
    assert error_cell(part) == "13.0 (4\u00a0to\u00a032)"
    assert error_cell({**part, "images": 10_000}) == "13.04"
    assert error_cell({"images": 184, "error_pct": 2.17}) == "2.2"  # the training images have no interval
    assert error_cell({}) == "–"


def test_the_report_shows_how_sure_an_accuracy_of_few_images_is():
    part = {"error_pct": 43.48, "images": 23, "error_interval_pct": [25.6, 63.2], "balanced_error_pct": 44.5}
    summary = {"test": part, "val": {**part, "images": 5000}, "images_per_s": 1, "precision": "bf16", "time_s": 1}
    test, val, _time = _headline(summary)
    assert (test["value"], test["note"]) == ("56.5 %", "23 images (95 %: 37 to 74)")
    assert (val["value"], val["note"]) == ("56.52 %", "5,000 images")
    assert [row[:3] for row in _results(summary)["rows"]] == [
        ["validation", "5,000", "43.48"],
        ["test", "23", "43.5 (26\u00a0to\u00a063)"],
    ]


def test_a_misspelt_network_is_reported_before_the_data_are_read():
    with pytest.raises(UserError, match="did you mean attention56"):
        train(TrainConfig(data="no such folder", model="attention57", json=True))
