"""Detectors by name and backbone: their parameters, and compatibility with older checkpoints."""

import hashlib

import pytest
import torch

from residual_attention.detection.config import DetectConfig
from residual_attention.detection.detectors import build_body, build_detector
from residual_attention.errors import UserError

THIN = {"widths": (16, 16, 16), "mask_depths": (1, 1, 1), "t": 1}
MEAN = STD = (0.5, 0.5, 0.5)


def detector_of(model: str, **changes):
    config = DetectConfig(**{"image_size": 64, "fpn_channels": 64, "head_channels": 32, **changes})
    torch.manual_seed(0)
    body, _ = build_body(config, model)
    return build_detector(config, body, ("disc", "square"), MEAN, STD)


KEYS = {  # digests of the names and shapes, in order
    ("faster_rcnn", "attention56_cifar", True): "8750bb05298a5b28",
    ("faster_rcnn", "attention56", True): "27e47cb0a4fd6fea",
    ("faster_rcnn", "attention56", False): "27e47cb0a4fd6fea",
    ("retinanet", "attention56_cifar", True): "e26a5cf882337322",
    ("retinanet", "attention56", True): "74add5424ca3e6c2",
    ("retinanet", "attention56", False): "6103649200bc3015",
    ("fcos", "attention56_cifar", True): "c8880b49c7a758cb",
    ("fcos", "attention56", True): "09d8fe38c4d0d873",
    ("fcos", "attention56", False): "d21424e63d08be06",
}


@pytest.mark.parametrize("name, model, small", list(KEYS))
def test_every_tensor_has_the_name_and_shape_that_checkpoints_hold(name, model, small):
    """A different digest means that previously trained detectors no longer load."""
    state = detector_of(model, detector=name, small_objects=small, **THIN).state_dict()
    listing = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256(listing.encode()).hexdigest()[:16] == KEYS[name, model, small]


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv3_large_100", "convnext_atto"])
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "fcos"])
def test_a_network_of_timm_learns_boxes_and_finds_some(name, model):
    detector = detector_of(model, detector=name, score_threshold=0.0).train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3)
    images = list(torch.rand(2, 3, 64, 96))
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}] * 2
    loss = sum(detector(images, targets).values())
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert next(detector.pyramid.body.parameters()).grad.abs().sum() > 0
    with torch.no_grad():
        found = detector.eval()(images)
    assert all(len(one["boxes"]) for one in found)


def test_options_of_our_networks_are_refused_with_timms():
    with pytest.raises(UserError, match="resnet18 is not one of our networks, so it does not take t, widths"):
        detector_of("resnet18", t=1, widths=(16, 16, 16))


def test_timms_networks_recompute_their_activations_where_they_can():
    body = detector_of("resnet18", grad_checkpointing=True).pyramid.body
    assert body.grad_checkpointing
    assert not detector_of("resnet18").pyramid.body.grad_checkpointing
