"""The network as an encoder in other libraries, and the feature pyramid of our detectors."""

import pytest
import timm
import torch
import torchvision
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from residual_attention.detection.backbone import TORCHVISION_NAMES, PyramidBackbone, finest_of_each_stride, timm_body
from residual_attention.errors import UserError
from residual_attention.models import create_model, list_models

DEEP = {name: {"modules": 1} for name in list_models() if any(d in name for d in ("452", "236", "164", "128"))}


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("size", [(64, 64), (75, 101)])
def test_features_have_the_stated_channels_and_strides_at_any_size(name, size):
    with torch.device("meta"):
        model = timm.create_model(name, features_only=True, out_indices=(1, 2, 3), **DEEP.get(name, {}))
        maps = model(torch.randn(1, 3, *size))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    for found, stride in zip(maps, model.feature_info.reduction(), strict=True):
        for side, of in zip(found.shape[2:], size, strict=True):
            assert side in (of // stride, -(-of // stride))


@pytest.mark.parametrize("name", list_models())
def test_torchvisions_detector_takes_timms_features_of_it(name):
    """As a user would who knows torchvision and timm, and only the name of our network."""

    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = timm.create_model(name, features_only=True, out_indices=(2, 3, 4), **DEEP.get(name, {}))
            self.fpn = FeaturePyramidNetwork(self.features.feature_info.channels(), 16)
            self.out_channels = 16

        def forward(self, images):
            return self.fpn({str(i): m for i, m in enumerate(self.features(images))})

    anchors = AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3)
    roi_pool = MultiScaleRoIAlign(["1"], 3, 0)
    detector = FasterRCNN(
        Body(), 2, min_size=64, max_size=64, rpn_anchor_generator=anchors, box_roi_pool=roi_pool
    ).train()
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}] * 2
    sum(detector(list(torch.rand(2, 3, 64, 64)), targets).values()).backward()
    stem = next(detector.backbone.features.parameters())
    assert stem.grad is not None
    assert stem.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "name, layers", [("attention56", ("stem", "stages", "final")), ("attention92_cifar", ("stages",))]
)
def test_torchvisions_own_pyramid_takes_the_network_as_it_is(name, layers):
    model = create_model(name, num_classes=0)
    channels = {"stem": 64, "stages": model.widths[-1], "final": model.num_features}
    pyramid = BackboneWithFPN(model, {layer: layer for layer in layers}, [channels[layer] for layer in layers], 32)
    maps = pyramid(torch.randn(1, 3, 64, 96))
    reduction = {"stem": 4, "stages": model.feature_info[3]["reduction"], "final": 32}
    for layer in layers:
        assert tuple(maps[layer].shape) == (1, 32, 64 // reduction[layer], 96 // reduction[layer])


@pytest.mark.parametrize("name", list_models())
def test_the_pyramid_halves_from_level_to_level(name):
    with torch.device("meta"):
        body = create_model(name, num_classes=0, **DEEP.get(name, {}))
        pyramid = PyramidBackbone(body, 32, finest_stride=4).train()
        maps = list(pyramid(torch.randn(2, 3, 128, 192)).values())
    assert pyramid.strides == [4, 8, 16, 32, 64]
    for found, stride in zip(maps, pyramid.strides, strict=True):
        assert tuple(found.shape) == (2, 32, -(-128 // stride), -(-192 // stride))
        assert found.dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet50", "resnet18", "mobilenetv3_large_100", "convnext_atto", "vgg11"])
def test_the_pyramid_takes_timms_networks(name):
    pyramid = PyramidBackbone(timm_body(name), 16, finest_stride=4).train()
    maps = list(pyramid(torch.randn(2, 3, 64, 96)).values())
    assert pyramid.strides == [4, 8, 16, 32, 64]
    sum(m.square().mean() for m in maps).backward()
    for found, stride in zip(maps, pyramid.strides, strict=True):
        assert tuple(found.shape) == (2, 16, -(-64 // stride), -(-96 // stride))
    assert [name for name, p in pyramid.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnt50", r"no network named 'resnt50' \(did you mean resnet50\?\)"),
        ("attention56_cfar", r"no network named 'attention56_cfar' \(did you mean attention56_cifar\?\)"),
        ("resnet50.nonsense", r"resnet50.nonsense cannot be a detector's backbone.*Invalid pretrained tag"),
        ("vit_tiny_patch16_224", r"cannot be a detector's backbone, which must take any image size: Input height"),
        ("bat_resnext26ts", r"cannot be a detector's backbone, which must take any image size: AssertionError"),
        ("inception_v3", r"cannot be a detector's backbone: its map at stride 2 is 64x45x77, not 64x48x80"),
        ("convmixer_768_32", r"cannot be a detector's backbone: its maps have stride 7, which is not a power of two"),
    ],
)
def test_a_network_that_cannot_be_a_backbone_is_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as refused:
        timm_body(name)
    assert "\n" not in str(refused.value)


def test_timms_resnet50_computes_what_torchvisions_does():
    theirs = torchvision.models.resnet50(weights=None).eval()
    body = timm_body("resnet50").eval()
    own = body.state_dict()
    body.load_state_dict({name: value for name, value in theirs.state_dict().items() if name in own})
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        maps = body(x)[1:]
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for found, layer in zip(maps, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True):
            x = layer(x)
            torch.testing.assert_close(found, x, atol=1e-6, rtol=1e-6)


def test_weights_of_torchvisions_resnet50_are_loaded_by_their_older_names():
    """Detectors saved before timm's networks could be backbones: a stem and four stages."""
    saved, fresh = (PyramidBackbone(timm_body("resnet50"), 16, finest_stride=4).eval() for _ in range(2))
    older = {}
    for name, value in saved.state_dict().items():
        for old, new in TORCHVISION_NAMES.items():
            name = name.replace(f"body.{new}", f"body.{old}")
        older[name] = value
    assert {"body.stem.0.weight", "body.stem.1.running_mean", "body.stages.3.2.bn3.bias"} <= set(older)
    torch.nn.Sequential(fresh).load_state_dict({f"0.{name}": value for name, value in older.items()})
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(saved(image).values(), fresh(image).values(), strict=True))


def test_the_deepest_map_of_each_stride_is_taken():
    assert finest_of_each_stride([4, 4, 8, 16, 32], 4) == [1, 2, 3, 4]
    assert finest_of_each_stride([1, 1, 2, 4, 4], 4) == [4]
    assert finest_of_each_stride([1, 1, 2, 4, 4], 8) == [4]
    assert finest_of_each_stride([2, 2, 4, 8, 8], 4) == [2, 4]


def test_frozen_normalisation_neither_moves_nor_learns():
    body = create_model("attention56_cifar", num_classes=0, widths=(16, 16, 16), mask_depths=1, final_width=16)
    pyramid = PyramidBackbone(body, 16, finest_stride=4, frozen=True).train()
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    maps = pyramid(torch.randn(2, 3, 64, 64))
    sum(m.square().mean() for m in maps.values()).backward()
    assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))
    assert all(not p.requires_grad for norm in norms for p in norm.parameters())
    silent = [n for n, p in pyramid.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert silent == []


def test_maps_are_float32_under_autocast():
    body = create_model("attention56_cifar", num_classes=0, widths=(16, 16, 16), mask_depths=1, final_width=16)
    pyramid = PyramidBackbone(body, 16, finest_stride=4)
    with torch.autocast("cpu", torch.bfloat16):
        maps = pyramid(torch.randn(1, 3, 64, 64))
    assert {m.dtype for m in maps.values()} == {torch.float32}
