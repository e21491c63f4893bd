"""Temperature, the risk-coverage curve, and thresholds chosen on it."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from residual_attention import create_model, load
from residual_attention.attention.readings import look
from residual_attention.checkpoints import list_weights
from residual_attention.checkpoints.card import Card
from residual_attention.checkpoints.confidence import Answering, Confidence, likeness
from residual_attention.classification.answers import text_lines
from residual_attention.classification.calibration import (
    fit_temperature,
    measure_confidence,
    measure_likeness,
    risk_coverage,
)
from residual_attention.classification.measures import calibration_error_pct
from residual_attention.classification.predict import predict
from residual_attention.classification.threshold import choose_threshold
from residual_attention.cli.main import main
from residual_attention.data.loading import EvalBatch
from residual_attention.data.preprocess import Preprocess
from residual_attention.errors import UserError

CURVE = (Answering(0.99, 50, 0), Answering(0.9, 80, 1), Answering(0.7, 90, 2), Answering(0.3, 100, 9))
MEASURED = Confidence(temperature=2.0, images=100, curve=CURVE)


def overconfident(count: int, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``factor`` times those whose softmax the labels are drawn from."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(factor):
    logits, labels = overconfident(20_000, factor)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(factor, rel=0.03)
    calibrated = Confidence(temperature=found).probabilities(logits)
    assert calibration_error_pct(calibrated, labels) < 1.5
    assert factor == 1 or calibration_error_pct(logits.softmax(dim=1), labels) > 5


def test_a_few_images_without_a_mistake_do_not_make_it_certain():
    logits = torch.eye(10) * 3
    found = fit_temperature(logits, torch.arange(10))
    assert 0.3 < found < 1
    assert (logits / found).softmax(dim=1).max() < 0.9999


def test_the_curve_counts_answers_and_mistakes_from_the_most_confident_on():
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.4, 0.6]])
    curve = risk_coverage(probabilities, torch.tensor([0, 1, 1, 1]))
    assert [(point.answered, point.wrong) for point in curve] == [(1, 0), (3, 1), (4, 1)]  # 0.8 twice: together
    assert [point.threshold for point in curve] == pytest.approx([0.9, 0.8, 0.6])
    many = risk_coverage(torch.rand(5000, 3).softmax(dim=1), torch.zeros(5000, dtype=torch.long))
    assert len(many) == 100
    assert many[-1].answered == 5000


@pytest.mark.parametrize("asked, least", [("2%", 0.9), ("3 %", 0.7), ("0%", 0.99), ("50%", 0.3)])
def test_the_threshold_answers_as_many_images_as_the_error_allows(asked, least):
    found = choose_threshold(MEASURED, None, asked)
    assert found is not None
    assert found.least == least
    assert "chosen on 100 validation images" in found.note


@pytest.mark.parametrize("asked", ["0.8", "80%"])
def test_a_threshold_can_be_given(asked):
    found = choose_threshold(Confidence(), asked, None)
    assert found is not None
    assert found.least == pytest.approx(0.8)
    assert choose_threshold(MEASURED, None, None) is None


@pytest.mark.parametrize(
    "confidence, arguments, message",
    [
        (MEASURED, ("0.8", "2%"), "not both"),
        (MEASURED, (None, "0.02"), "must be a percentage such as 2%, not '0.02'"),
        (MEASURED, (None, "many%"), "must be a percentage"),
        (MEASURED, ("1.5", None), "must be a probability such as 0.8"),
        (MEASURED, ("nan", None), "must be a probability"),
        (Confidence(), (None, "2%"), "trained with a validation split"),
        (Confidence(images=10, curve=(Answering(0.5, 10, 3),)), (None, "2%"), "lowest error is 30.0 %, of the 10"),
    ],
)
def test_a_threshold_that_cannot_be_is_a_users_error(confidence, arguments, message):
    with pytest.raises(UserError, match=message):
        choose_threshold(confidence, *arguments)


def test_a_card_keeps_it_and_a_card_without_it_has_temperature_1():
    card = Card(model="attention56_cifar", classes=("a", "b"), preprocess=Preprocess(32))
    assert "confidence" not in card.to_header()
    assert Card.from_header(card.to_header(), "file").confidence.temperature == 1
    card = Card(model="attention56_cifar", classes=("a", "b"), preprocess=Preprocess(32), confidence=MEASURED)
    assert Card.from_header(card.to_header(), "file").confidence == MEASURED
    with pytest.raises(UserError, match="damaged"):
        Card.from_header({**card.to_header(), "confidence": {"temperature": 0}}, "file")


def test_without_validation_images_nothing_is_measured():
    assert measure_confidence(None, Confidence()) == Confidence()


def test_a_finished_run_is_calibrated_on_validation_and_measured_on_test(finished, tmp_path, capsys):
    summary = json.loads((finished / "summary.json").read_text())
    model = load(finished)
    confidence = model.card.confidence
    assert confidence.temperature == summary["temperature"] != 1
    assert confidence.images == summary["val"]["images"]
    assert confidence.curve[-1][1:] == (summary["val"]["images"], round(summary["val"]["error_pct"] * 1.43))
    assert summary["test"]["risk_coverage"][-1][1] == summary["test"]["images"]
    assert main(["eval", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["calibrated"]["ece_pct"] == pytest.approx(summary["test"]["calibrated_ece_pct"], abs=1e-3)
    assert found["ece_pct"] == pytest.approx(summary["test"]["ece_pct"], abs=1e-3)

    path = next((finished / "examples").glob("*.png"))
    assert main(["predict", str(finished), str(path), "--json", "--min-confidence", "1.0"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    image = model.preprocess(Image.open(path))[None]
    expected = (model(image) / confidence.temperature).softmax(dim=1).max().item()
    assert answer["probability"] == pytest.approx(expected, abs=1e-5)
    assert look(model, image).probabilities.max().item() == pytest.approx(expected, abs=1e-5)
    assert (answer["class"], answer["unsure"]) == ("unsure", True)


def test_the_likeness_is_the_direction_of_the_features_from_the_centre():
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    features = torch.tensor([[3.0, 1.0], [1.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    found = likeness(features, weight, torch.tensor([1.0, 1.0]))
    assert found.tolist() == pytest.approx([1.0, 2.0, -(0.5**0.5), 0.0])  # the centre itself is 0, not nan


def test_the_likeness_of_nineteen_in_twenty_validation_images_is_kept_and_few_images_tell_nothing():
    torch.manual_seed(0)
    network = create_model("attention56_cifar", num_classes=3, widths=(16, 16, 16), mask_depths=(1, 1, 1), t=1).eval()
    images = torch.randn(40, 3, 32, 32)
    batches = [EvalBatch(part, torch.zeros(20), torch.arange(20)) for part in images.split(20)]
    found = measure_likeness(network, batches)
    features = network.forward_head(network.forward_features(images), pre_logits=True)
    alike = likeness(features, network.head.fc.weight, torch.tensor(found.centre))
    assert found.least_likeness is not None
    assert (alike >= found.least_likeness).sum() == 38
    assert Confidence.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert measure_likeness(network, [EvalBatch(images[:19], torch.zeros(19), torch.arange(19))]) == Confidence()


def test_the_run_and_its_export_call_the_same_images_unlike_the_training_images(finished, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    model = load(finished)
    assert main(["export", str(finished), str(tmp_path / "m.onnx")]) == 0
    exported = load(tmp_path / "m.onnx", engine="onnxruntime")
    assert exported.card.confidence == model.card.confidence
    images = torch.randn(30, *model.preprocess(Image.new("L", (8, 8))).shape)
    with torch.no_grad():
        logits, alike = model.with_likeness(images)
        assert torch.equal(logits, model(images))
    assert alike is not None
    torch.testing.assert_close(exported.with_likeness(images)[1], alike, rtol=1e-3, atol=1e-4)

    paths = sorted((finished / "examples").glob("*.png"))
    squares = torch.stack([model.preprocess(Image.open(path)) for path in paths])
    least = sorted(model.with_likeness(squares)[1].tolist())[3]  # three of the eight are below
    confidence = replace(model.card.confidence, least_likeness=least)
    for network in (model, exported):
        network.card = replace(network.card, confidence=confidence)
        found, _ = predict(network, paths)
        assert sum(bool(one.unlike) for one in found) in (3, 4)  # the fourth is on the threshold
        assert sum("unlike the training images" in line for line in text_lines(found)) in (3, 4)


def test_the_shipped_weights_know_how_sure_they_are_and_what_they_do_not_know():
    for name in list_weights():
        confidence = load(name).card.confidence
        assert 1 < confidence.temperature < 1.5
        assert confidence.images >= 143
        assert confidence.least_likeness is not None
        assert confidence.curve[-1].answered == confidence.images
