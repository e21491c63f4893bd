"""Several labels per image: training, thresholds, answers, masks and exports."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from residual_attention import load
from residual_attention.checkpoints.card import Card, read_card
from residual_attention.checkpoints.confidence import Confidence
from residual_attention.checkpoints.own_data import split_for
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.evaluate import evaluate_model
from residual_attention.classification.initial import copy_weights
from residual_attention.classification.judging import SEVERAL_LABELS
from residual_attention.classification.multilabel import average_precisions, best_thresholds, multilabel_measures
from residual_attention.classification.report import write_comparison
from residual_attention.classification.views import class_probabilities
from residual_attention.cli.main import main
from residual_attention.data.samples import TensorSamples
from residual_attention.data.table import read_list
from residual_attention.errors import UserError
from residual_attention.tasks import resume, train
from residual_attention.training.start import Start

LABELS = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> Path:
    """72 pictures of 24 px: each has a patch of up to three colours, whose names are its labels."""
    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(72):
        pixels = rng.integers(0, 60, (24, 24, 3), dtype=np.uint8)
        chosen = [k for k in range(3) if (i % 8) >> k & 1]
        for k in chosen:
            x, y = rng.integers(0, 16, 2)
            pixels[y : y + 8, x : x + 8, 2 - k] = 250
        Image.fromarray(pixels).save(folder / f"{i}.png")
        split = "train" if i < 40 else ("val", "test")[(i // 8) % 2]
        rows.append([f"{i}.png", ";".join(LABELS[k] for k in chosen), split])
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "labels", "split"], *rows])
    return folder / "list.csv"


def config(listed: Path, out: Path, **changes) -> TrainConfig:
    defaults = {
        "data": str(listed),
        "model": "attention56_cifar",
        "image_size": 24,
        "batch_size": 20,
        "epochs": 8,
        "lr": 0.05,
        "widths": (16, 16, 16),
        "mask_depths": (1, 1, 1),
        "t": 1,
        "precision": "fp32",
        "workers": 0,
        "out": out,
        "json": True,
    }
    return TrainConfig(**{**defaults, **changes})


@pytest.fixture(scope="module")
def run(listed, tmp_path_factory) -> Path:
    """A run of 16 steps with class weights, label smoothing and mixup, and all of its pictures."""
    out = tmp_path_factory.mktemp("multilabel") / "run"
    train(config(listed, out, class_weights=True, label_smoothing=0.05, mixup=0.2))
    return out


@pytest.fixture(scope="module")
def exported(run, listed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "net.onnx"
    assert main(["export", str(run), str(out), "--data", str(listed)]) == 0
    return out


def printed(capsys, *argv: object) -> str:
    capsys.readouterr()
    assert main([str(each) for each in argv]) == 0
    return capsys.readouterr().out


def test_a_run_is_judged_by_map_and_by_no_error(run):
    summary = json.loads((run / "summary.json").read_text())
    assert "error" not in json.dumps(summary)
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    best = max(rows, key=lambda row: (float(row["val_map_pct"]), int(row["epoch"])))
    assert int(best["epoch"]) == summary["best_epoch"]
    assert summary["train"]["mean_ap_pct"] > 60  # 50 % of the images have each label
    for split in ("val", "test"):
        found = evaluate_model(str(run), split=split)
        for key in ("mean_ap_pct", "macro_f1_pct", "exact_pct", "loss"):
            assert found[key] == pytest.approx(summary[split][key])
    page = (run / "report.html").read_text()
    assert f"{summary['test']['mean_ap_pct']:.1f} %" in page
    assert "average precision %" in page
    assert "<th>error %" not in page
    assert page.count("data:image/png") == 3  # curves, wide and narrow, precision and recall
    for heading in ("Where it looks", "Worst mistakes", "Successes", "How the masks developed"):
        assert f"<h2>{heading}</h2>" in page


def test_a_comparison_names_the_measure(run, tmp_path):
    page = write_comparison([run, run], tmp_path / "both.html").read_text()
    assert "test error or mAP %" in page
    reached = json.loads((run / "summary.json").read_text())["test"]["mean_ap_pct"]
    assert page.count(f"<td>mAP {reached:.2f}</td>") == 2


def test_measures_of_a_known_case():
    shares = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.6, 0.1], [0.7, 0.5, 0.2], [0.1, 0.4, 0.3]])
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
    assert average_precisions(shares, labels) == [pytest.approx((1 + 2 / 3) / 2), pytest.approx((1 + 2 / 3) / 2), None]
    thresholds = best_thresholds(shares, labels)
    assert thresholds == (pytest.approx(0.4), pytest.approx(0.3), 0.5)  # F1 of 0.8 with three given
    found = multilabel_measures(shares, labels, LABELS, thresholds)
    assert found["mean_ap_pct"] == pytest.approx(500 / 6)
    assert found["micro_f1_pct"] == found["macro_f1_pct"] == pytest.approx(80)
    assert found["exact_pct"] == pytest.approx(50)
    assert [row["recall_pct"] for row in found["per_class"]] == [100, 100, None]
    assert found["per_class"][2]["f1_pct"] is None


def test_the_loss_is_binary_cross_entropy_whose_gradient_does_not_fade_with_the_number_of_labels():
    logits = torch.randn(4, 3, requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0.3]]).expand(4, 3)
    objective, loss = SEVERAL_LABELS.losses(logits, targets, None, 0.0)
    share = logits.sigmoid()
    assert loss.item() == pytest.approx(-(targets * share.log() + (1 - targets) * (1 - share).log()).mean().item())
    (slope,) = torch.autograd.grad(objective, logits)
    assert torch.allclose(slope, (share - targets) / 4, atol=1e-6)
    _, smooth = SEVERAL_LABELS.losses(logits, targets, torch.ones(3), 0.2)
    assert smooth.item() == pytest.approx(F.binary_cross_entropy(share, 0.8 * targets + 0.1).item(), rel=1e-4)


def test_the_card_keeps_thresholds_from_the_first_checkpoint_on(run):
    card = read_card(run / "checkpoints" / "best.safetensors")
    assert card.confidence.images == 16
    assert len(set(card.confidence.thresholds)) > 1
    assert Card.from_header(card.to_header(), "file") == card
    assert read_card(run / "checkpoints" / "last.safetensors").confidence.thresholds == (0.5, 0.5, 0.5)
    model = load(run)
    assert model.thresholds == dict(zip(LABELS, card.confidence.thresholds, strict=True))
    images = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        expected = (model(images) / card.confidence.temperature).sigmoid()
    assert torch.allclose(model.probabilities(model(images)), expected)


def test_a_run_that_goes_on_is_bit_for_bit_a_longer_one(listed, tmp_path):
    same = {"schedule": "constant", "mixup": 0.2, "val_fraction": 0.0}
    train(config(listed, tmp_path / "whole", epochs=2, **same))
    train(config(listed, tmp_path / "part", epochs=1, **same))
    resume(tmp_path / "part", epochs=2, json=True)
    whole, part = (load(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "part"))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, part.state_dict()[name]), name


def test_predictions_are_all_labels_above_their_thresholds(run, listed, capsys, tmp_path):
    photos = [listed.parent / f"{i}.png" for i in range(40, 48)]
    model = load(run)
    shares = [dict(found) for found in model.predict(photos)]
    expected = [{name for name in LABELS if share[name] >= model.thresholds[name]} for share in shares]
    assert len({frozenset(each) for each in expected}) > 2
    answers = json.loads(printed(capsys, "predict", run, *photos, "--json", "--top-k", 1))
    assert [{row["class"] for row in answer["labels"]} for answer in answers] == expected
    lines = printed(capsys, "predict", run, *photos).splitlines()
    for line, names in zip(lines, expected, strict=True):
        given = line.partition("(")[0].split(".png", 1)[1]
        assert {name for name in LABELS if name in given} == names
        assert ("none" in given) == (not names)
    table = listed.parent / "answers.csv"
    printed(capsys, "predict", run, *photos, "--csv", table, "--tta", "mirror")
    again = read_list(table, several=True)
    assert len(again.splits["all"]) == 8
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert all(f"probability of {name}" in rows[0] for name in LABELS)
    everything = json.loads(printed(capsys, "predict", run, photos[0], "--json", "--min-confidence", "0"))
    assert len(everything[0]["labels"]) == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["predict", "{run}", "{image}", "--sort-into", "x"], "this model is multi-label: use --csv"),
        (["predict", "{run}", "{image}", "--max-error", "2%"], "use --min-confidence"),
        (["attend", "{run}", "{list}", "--measure"], "this model is multi-label"),
        (["attend", "{run}", "{list}", "--intervene"], "this model is multi-label"),
        (["train", "{list}", "--balanced-sampling", "--out", "x"], "--class-weights does not"),
        (["train", "{list}", "--label-noise", "0.1", "--out", "x"], "one class per image"),
        (["eval", "attention56_cifar.cifar10", "{list}"], "the model gives one class per image"),
    ],
)
def test_what_needs_one_class_is_refused_in_one_line(run, listed, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"run": str(run), "list": str(listed), "image": str(listed.parent / "0.png")}
    assert main([argument.format(**places) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") <= 1


def test_a_list_with_one_label_a_row_is_evaluated_with_its_empty_rows(run, listed):
    table = listed.parent / "single.csv"
    table.write_text("path,labels\n40.png,\n41.png,blue\n42.png,green\n")
    found = evaluate_model(str(run), str(table))
    assert [row["images"] for row in found["per_class"]] == [1, 1, 0]
    assert found["images"] == 3


def test_masks_are_drawn_for_every_label_found(run, listed, capsys, tmp_path):
    image = listed.parent / "47.png"  # all three
    heights = {}
    for reading in ("mean", "class"):
        out = tmp_path / reading
        told = json.loads(printed(capsys, "attend", run, image, "--reading", reading, "--out", out, "--json"))
        with Image.open(told["images"][0]["files"][0]) as figure:
            heights[reading] = figure.height
    count = len(told["images"][0]["labels"])
    assert count > 1
    assert heights["class"] == pytest.approx(count * heights["mean"], rel=0.15)
    sheets = json.loads(printed(capsys, "attend", run, listed, "--out", tmp_path / "s", "--limit", 4, "--json"))
    assert len(sheets["sheets"]) == 1


def test_an_exported_network_gives_the_same_labels_and_figures(run, exported, listed, capsys):
    import onnx

    told = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    model = load(run)
    assert told["probabilities"] == "sigmoid(logits / temperature)"
    assert json.loads(told["thresholds"]) == list(model.card.confidence.thresholds)
    plain, other = (json.loads(printed(capsys, "eval", each, listed, "--json")) for each in (run, exported))
    for key in ("mean_ap_pct", "micro_f1_pct", "exact_pct"):
        assert other[key] == pytest.approx(plain[key])
    photo = listed.parent / "41.png"
    plain, other = (json.loads(printed(capsys, "predict", each, photo, "--json"))[0] for each in (run, exported))
    assert [row["class"] for row in plain["labels"]] == [row["class"] for row in other["labels"]]


def test_the_page_the_demo_and_the_server_know_labels(run, listed):
    from residual_attention.demo.session import open_session
    from residual_attention.export.page import page_html
    from residual_attention.export.runtime import Runtime
    from residual_attention.serve.answering import Answering

    model, photo = load(run), listed.parent / "47.png"
    page = page_html(model, b"", Runtime(b"", b""))
    card = json.loads(page.split('id="card">')[1].split("</script>")[0])
    assert card["thresholds"] == list(model.card.confidence.thresholds)
    expected = dict(model.predict(photo)[0])
    given = {name for name, share in expected.items() if share >= model.thresholds[name]}
    session = open_session(model, photo)
    assert session.top == pytest.approx(expected)
    assert all(name in session.verdict.partition("\n")[0] for name in given)
    answering = Answering(model, model)
    square, _ = answering.read(photo.read_bytes(), "a.png", masks=False)
    (answer,) = answering.classify(square[None])
    assert {row["class"] for row in answer.to_dict()["labels"]} == given


def test_a_classifier_of_one_class_is_no_start_for_labels(run):
    model = load(run)
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    before = model.get_classifier().weight.clone()
    one_class = Card(**{**vars(model.card), "confidence": Confidence()})
    assert "from scratch" in copy_weights(model, Start("x", weights, one_class), several=True)
    assert torch.equal(model.get_classifier().weight, before)
    assert "from scratch" not in copy_weights(model, Start("x", weights, model.card), several=True)
    assert torch.equal(model.get_classifier().weight, before + 1)


def test_averaged_views_are_averaged_probabilities(run, listed):
    shares = torch.tensor([[0.9, 0.05, 0.05]])
    several, one = Confidence(thresholds=(0.5, 0.5, 0.5)), Confidence()
    for confidence in (several, one):
        assert torch.allclose(confidence.probabilities(confidence.as_logits(shares)), shares)
    model = load(run)
    _, samples, _ = split_for(model, str(listed))
    assert isinstance(samples, TensorSamples)
    with torch.no_grad():
        mean, _ = class_probabilities(model, model.preprocess.normalize(samples.images), "mirror")
    wanted = multilabel_measures(mean, samples.labels, LABELS, list(model.thresholds.values()))
    found = evaluate_model(str(run), str(listed), views="mirror")
    for key in ("mean_ap_pct", "micro_f1_pct", "ece_pct"):
        assert found["tta"][key] == pytest.approx(wanted[key], rel=1e-4)
    assert found["tta"]["mean_ap_pct"] != found["mean_ap_pct"]
    assert evaluate_model(str(run), str(listed), ten_crop=True)["per_class"][0]["images"] == 8


def test_thresholds_that_are_no_probabilities_are_refused():
    with pytest.raises(UserError, match="between 0 and 1"):
        Confidence.from_dict({"thresholds": [0.5, float("nan")]})
