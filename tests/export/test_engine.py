"""Which engine predicts many images, and that it gives the same answers."""

import dataclasses

import pytest
import torch

from residual_attention import load
from residual_attention.classification.predict import predict
from residual_attention.cli.main import main
from residual_attention.errors import UserError
from residual_attention.export import engine
from residual_attention.export.engine import Chosen, compiled, fastest

DIGITS = "attention56_cifar.digits"
pytestmark = pytest.mark.filterwarnings("ignore")  # the engines' own


@pytest.fixture(scope="module")
def model():
    """The shipped weights with a centre, so that the likeness is computed too."""
    network = load(DIGITS)
    centre = tuple(0.01 * i for i in range(network.head.num_features))
    confidence = dataclasses.replace(network.card.confidence, centre=centre, least_likeness=0.0)
    network.card = dataclasses.replace(network.card, confidence=confidence)
    return network


def test_a_compiled_network_gives_the_same_answers_and_stays_in_the_cache(model, own_cache):
    pytest.importorskip("openvino", reason="the extra export is not installed")
    found = compiled(model, "openvino")
    images = torch.randn(5, 1, model.preprocess.image_size, model.preprocess.image_size)
    with torch.no_grad():
        for ours, theirs in zip(found.with_likeness(images), model.with_likeness(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    (folder,) = (own_cache / "engines").iterdir()
    (folder / "network.xml").write_text("damaged")
    assert torch.equal(compiled(model, "openvino")(images), found(images))
    at_once = compiled(model, "openvino", streams=2)
    torch.testing.assert_close(at_once(images), found(images), rtol=1e-4, atol=1e-4)
    assert torch.equal(at_once(images.flip(0)), at_once(images).flip(0))  # whatever answers first
    assert [path.name for path in (own_cache / "engines").iterdir()] == [folder.name]


@pytest.mark.parametrize("count, seconds, expected", [(50, 9.0, None), (1000, 0.01, None), (1000, 0.1, "openvino")])
def test_another_engine_is_chosen_only_where_it_pays(model, monkeypatch, count, seconds, expected):
    monkeypatch.setattr(engine, "_seconds_per_image", lambda _: seconds)
    monkeypatch.setattr(engine, "present_engines", lambda: ["openvino"])
    monkeypatch.setattr(engine, "_cached", lambda _: engine.Path("nowhere"))
    monkeypatch.setattr(engine, "compiled", lambda network, name, streams: name)
    assert fastest(model, count) == (
        Chosen(model) if expected is None else Chosen(expected, f"engine: openvino, for {count} images")
    )
    assert fastest(model, count, "torch") == Chosen(model)


def test_a_network_that_computes_something_else_is_not_used(model, monkeypatch):
    pytest.importorskip("openvino", reason="the extra export is not installed")
    monkeypatch.setattr(engine, "_worth_it", lambda *_: "openvino")
    monkeypatch.setattr("residual_attention.export.onnx.TOLERANCE", -1.0)
    found = fastest(model, 1000)
    assert found.model is model
    assert "engine: torch (openvino was tried: " in found.note


def test_an_engine_that_is_unknown_or_missing_is_a_users_error(model, monkeypatch, finished, capsys):
    with pytest.raises(UserError, match="engine must be one of auto, torch"):
        fastest(model, 1, "tensorrt")
    monkeypatch.setattr(engine, "present_engines", lambda: [])
    with pytest.raises(UserError, match="is not installed: pip install"):
        fastest(model, 1, "openvino")
    assert fastest(model, 10_000).model is model


def test_answers_keep_their_order_and_unreadable_files_are_told(model, finished, tmp_path):
    good = sorted((finished / "examples").glob("*.png"))
    (tmp_path / "broken.png").write_text("no image")
    paths = [path for one in good for path in (one, tmp_path / "broken.png")]
    found, unread = predict(model, paths, batch_size=3)
    assert [one.path for one in found] == [str(path) for path in good]
    assert [failure.path for failure in unread] == [tmp_path / "broken.png"] * len(good)
    alone = [predict(model, [path])[0][0] for path in good]
    for one, other in zip(found, alone, strict=True):
        assert one.top[0][1] == pytest.approx(other.top[0][1], abs=1e-4)


def test_the_command_takes_an_engine(finished, capsys):
    pytest.importorskip("openvino", reason="the extra export is not installed")
    image = str(next((finished / "examples").glob("*.png")))
    answers = []
    for name in ("torch", "openvino"):
        assert main(["predict", DIGITS, image, "--engine", name]) == 0
        answers.append(capsys.readouterr())
    assert answers[0].out == answers[1].out
    assert "engine: openvino" in answers[1].err
