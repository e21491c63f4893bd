"""Sanity checks of maps, mosaics and intervals over networks: known answers."""

import pytest
import torch

from residual_attention import create_model
from residual_attention.attention.bootstrap import Interval, bootstrap
from residual_attention.attention.faithfulness import BASELINES, replaced, replacement_auc
from residual_attention.attention.localisation import energy_in_box
from residual_attention.attention.measure import rank_agreement
from residual_attention.attention.mosaics import confident, make_mosaics
from residual_attention.attention.peers import peer_maps
from residual_attention.attention.road import imputed, road
from residual_attention.attention.sanity import randomised, rank_correlation, weight_dependence


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_model("attention56_cifar", num_classes=3, widths=(8, 8, 8), mask_depths=(1, 1, 1), t=1).eval()


def test_rank_correlation_of_equal_reversed_and_constant_maps():
    one = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    other = torch.stack([one[0].exp(), -one[1], torch.ones(5, 5)])
    assert rank_correlation(one, other).tolist() == pytest.approx([1, -1, 0], abs=1e-5)
    assert rank_correlation(one[:1], other[:1]).tolist() == pytest.approx([1], abs=1e-5)


def test_networks_are_randomised_from_the_classifier_down(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image, changed = torch.randn(1, 3, 32, 32), []
    for copy in randomised(network, seed=0):
        parameters = dict(copy.named_parameters())
        changed.append({name.split(".")[0] for name in parameters if not torch.equal(parameters[name], before[name])})
        assert copy(image).isfinite().all()
    assert changed[0] == {"head"}
    assert changed[1] == {"head", "final"}  # a fresh batch norm is as it was at the start
    assert changed[-1] == {"head", "final", "stages", "stem"}
    assert len(changed) == 6
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_map_that_ignores_the_weights_depends_on_none(network):
    images = torch.randn(2, 3, 32, 32)
    edges = images.mean(dim=1)

    def maps(model):
        with torch.no_grad():
            return {"edges": edges, "features": model.forward_features(images).mean(dim=1)}

    found = weight_dependence(network, maps, maps(network), seed=0)
    assert found["edges"].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert (found["features"].abs() < 0.9).all()


def test_mosaics_point_at_the_tile_of_their_class():
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    images = labels[:, None, None, None].expand(6, 3, 4, 4).float()
    mosaics = make_mosaics(images, labels, 8, seed=0)
    for image, target, box in zip(mosaics.images, mosaics.targets, mosaics.boxes, strict=True):
        heat = (image[:1] == target).float()
        assert heat.sum() == 16  # one tile shows the class
        assert energy_in_box(heat, [box]).item() == 1.0
    assert len({tuple(box[0].tolist()) for box in mosaics.boxes}) == 4
    few = make_mosaics(images[:2], labels[:2], 2, seed=0)  # two classes: the other fills three tiles
    assert [int((image[0] == target).sum()) for image, target in zip(few.images, few.targets, strict=True)] == [16, 16]
    assert make_mosaics(images[:1], labels[:1], 2, seed=0) is None
    logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0.1, 0, 0]])
    assert confident(logits, torch.tensor([0, 1, 0])).tolist() == [True, False, False]


def mean_classifier(images: torch.Tensor) -> torch.Tensor:
    """The probability of class 0 is the mean of the left half."""
    share = images[..., : images.shape[-1] // 2].mean((1, 2, 3)).clamp(0, 1)
    return torch.stack([share, 1 - share], dim=1)


def test_every_baseline_knows_which_half_counts():
    images, targets = torch.ones(2, 3, 12, 12), torch.tensor([0, 0])
    heat = torch.zeros(2, 12, 12)
    heat[0, :, :6], heat[1, :, 6:] = 1.0, 1.0
    for baseline in ("mean", "noise"):
        deleted = replacement_auc(mean_classifier, images, targets, heat, insertion=False, baseline=baseline)
        inserted = replacement_auc(mean_classifier, images, targets, heat, insertion=True, baseline=baseline)
        assert deleted[0] < deleted[1]
        assert inserted[0] > inserted[1]
    flat = {baseline: replaced(images, baseline) for baseline in BASELINES}
    assert flat["mean"].abs().max() == 0
    assert torch.allclose(flat["blur"], images, atol=1e-5)  # a flat image is its own blur
    assert torch.equal(flat["noise"][0], flat["noise"][1])


def test_intervals_over_networks_are_wider_where_networks_differ():
    values = torch.randn(1, 200, generator=torch.Generator().manual_seed(0))
    alike, apart = bootstrap(values.expand(3, 200)), bootstrap(values + torch.tensor([[-1.0], [0.0], [1.0]]))
    assert apart.mean == pytest.approx(alike.mean)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)


def test_measures_that_order_methods_alike_agree():
    def of(deletion: float, insertion: float, road_: float) -> dict[str, Interval]:
        values = {"deletion_auc": deletion, "insertion_auc": insertion, "road": road_}
        return {name: Interval(value, value, value) for name, value in values.items()}

    found = rank_agreement({"a": of(0.1, 0.9, 0.0), "b": of(0.2, 0.8, 0.1), "c": of(0.3, 0.7, 0.2)})
    assert found["deletion_auc"] == {"deletion_auc": 1.0, "insertion_auc": 1.0, "road": -1.0}


def test_peers_explain_the_class_they_are_asked_for(network):
    pytest.importorskip("captum")
    images = torch.randn(2, 3, 32, 32)
    one, other = (peer_maps(network, images, torch.tensor([k, k]), score_cam=True) for k in (0, 1))
    assert {"Grad-CAM", "integrated gradients"} <= set(one)
    for name, heat in one.items():
        assert len(heat) == 2
        assert heat.isfinite().all()
        assert not torch.allclose(heat, other[name])


def test_road_prefers_the_half_that_counts():
    pytest.importorskip("pytorch_grad_cam.metrics.road")
    flat = torch.full((3, 6, 6), 0.5)
    middle = torch.ones(6, 6, dtype=torch.bool)
    middle[2:4, 2:4] = False
    hole = torch.where(middle, flat, 9.0)
    assert torch.allclose(imputed(hole, middle), flat, atol=0.06)  # by the pixels around it, with noise
    images, targets = torch.zeros(2, 3, 12, 12), torch.tensor([0, 0])
    images[:, :, 3:9, 1:5] = 1.0
    heat = torch.zeros(2, 12, 12)
    heat[0, 3:9, 1:5], heat[1, :, 6:] = 1.0, 1.0
    found = road(mean_classifier, images, targets, heat)
    assert found[0] > 0.1 > found[1]
