"""The measures of maps: known answers on synthetic networks and maps."""

import json

import pytest
import torch

from residual_attention.attention.bootstrap import Interval, bootstrap
from residual_attention.attention.faithfulness import ranks, replacement_auc
from residual_attention.attention.localisation import coverage, energy_in_box, pointing_hits
from residual_attention.attention.methods import centre_prior, last_of_each_stage, random_maps
from residual_attention.attention.statistics import mask_statistics
from residual_attention.boxes.by_image import read_boxes


def corner_classifier(images: torch.Tensor) -> torch.Tensor:
    """The probability of class 0 is the mean of the upper left quarter."""
    share = images[:, :, :8, :8].mean((1, 2, 3)).clamp(0, 1)
    return torch.stack([share, 1 - share], dim=1)


def test_deletion_and_insertion_know_the_right_corner():
    images, targets = torch.zeros(2, 3, 16, 16), torch.tensor([0, 0])
    images[:, :, :8, :8] = 1.0
    heat = torch.zeros(2, 16, 16)
    heat[0, :8, :8] = 1.0  # right
    heat[1, 8:, 8:] = 1.0  # wrong
    deleted = replacement_auc(corner_classifier, images, targets, heat, insertion=False)
    inserted = replacement_auc(corner_classifier, images, targets, heat, insertion=True)
    assert deleted[0] == pytest.approx(0.125, abs=0.02)  # gone after a quarter of the steps
    assert deleted[1] > 0.45
    assert inserted[0] > inserted[1]
    assert inserted[0] > 0.85


def test_ranks_go_from_hot_to_cold():
    assert torch.equal(ranks(torch.tensor([[[0.1, 0.9], [0.5, 0.5]]])), torch.tensor([[[3, 0], [1, 2]]]))


def test_localisation_counts_pixels_and_their_parts():
    heat = torch.zeros(2, 4, 4)
    heat[:, 1, 2] = 3.0
    heat[:, 3, 3] = 1.0
    inside, outside = torch.tensor([[2.0, 1.0, 3.0, 2.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert pointing_hits(heat, [inside, outside]).tolist() == [1.0, 0.0]
    assert energy_in_box(heat, [inside, outside]).tolist() == [0.75, 0.0]
    assert pointing_hits(heat, [torch.cat([outside, inside])] * 2).tolist() == [1.0, 1.0]
    assert coverage(torch.tensor([[0.5, 0.0, 2.0, 1.0]]), 2, 3).tolist() == [[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]
    even = energy_in_box(torch.zeros(1, 4, 4), [torch.tensor([[0.0, 0.0, 2.0, 2.0]])])
    assert even.item() == pytest.approx(0.25)


def test_bootstrap_interval_holds_the_mean_and_narrows():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) + 3
    many, few = bootstrap(values), bootstrap(values[:20])
    assert many.low < many.mean < many.high
    assert few.high - few.low > 2 * (many.high - many.low)
    assert many == bootstrap(values)
    assert bootstrap(torch.ones(5)) == Interval(1.0, 1.0, 1.0)


def test_statistics_of_even_pointed_and_saturated_masks():
    even, point = torch.full((1, 2, 4, 4), 0.5), torch.zeros(1, 2, 4, 4)
    point[:, :, 0, 0] = 1.0
    found = mask_statistics({"even": even, "point": point})
    assert found["even"]["entropy"] == pytest.approx(1.0)
    assert found["even"]["saturated_share"] == 0.0
    assert found["even"]["std_over_positions"] == 0.0
    assert found["point"]["entropy"] == pytest.approx(0.0, abs=1e-5)
    assert found["point"]["saturated_share"] == 1.0
    signed = mask_statistics({"s": torch.zeros(1, 2, 4, 4)}, signed=True)
    assert "saturated_share" not in signed["s"]
    opposed = torch.zeros(1, 2, 4, 4)
    opposed[:, 0], opposed[:, 1] = 0.5, -0.6
    assert mask_statistics({"s": opposed}, signed=True)["s"]["entropy"] == pytest.approx(1.0)


def test_baselines():
    prior = centre_prior(2, 9)
    assert prior.shape == (2, 9, 9)
    assert int(prior[0].argmax()) == 40
    noise = random_maps(2, 32, torch.Generator().manual_seed(3))
    assert torch.equal(noise, random_maps(2, 32, torch.Generator().manual_seed(3)))
    assert not torch.equal(noise[0], noise[1])
    assert last_of_each_stage(["stages.0.1", "stages.0.2", "stages.1.1"]) == ["stages.0.2", "stages.1.1"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not JSON"),
        ("[]", "expected a JSON object"),
        (json.dumps({"a/x.png": [1, 2, 3]}), "needs boxes"),
        (json.dumps({"a/x.png": [[5, 5, 5, 9]]}), "x0 < x1"),
        (json.dumps({"a/x.png": "b"}), "needs boxes"),
    ],
)
def test_bad_boxes_are_reported(tmp_path, text, message):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "boxes.json")
    with pytest.raises(ValueError, match="no boxes file"):
        read_boxes(tmp_path / "none.json")
