"""The contract of every family of trunks: the smallest member of each, at small images."""

import pytest
import timm
import torch
from torch import Tensor, nn

from residual_attention import attention_masks, create_model, load, record_masks
from residual_attention.attention.methods import method_maps
from residual_attention.checkpoints import Card, save_checkpoint
from residual_attention.checkpoints.load import WEIGHTS_PREFIX
from residual_attention.data.preprocess import Preprocess
from residual_attention.family import AttentionModule
from residual_attention.models import registry  # noqa: F401 (registers the names)
from residual_attention.trunks.backbone import trunk_of
from residual_attention.trunks.network import TrunkNetwork
from residual_attention.trunks.plan import plan_of
from residual_attention.trunks.sizing import macs

FAMILIES = {  # the smallest member of each, and its stages with attention
    "resnet18": 4,
    "resnext50_32x4d": 4,
    "seresnet18": 4,
    "densenet121": 4,
    "vgg11_bn": 3,
    "inception_v3": 3,
    "efficientnet_b0": 4,
    "mobilenetv3_small_050": 3,
    "regnetx_002": 2,
    "convnext_atto": 4,
    "darknet21": 2,
    "ghostnet_050": 4,
}
QUICK = ("resnet18", "densenet121", "efficientnet_b0")  # the rest is slow
MARKED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]
UNMATCHED_MACS = 0.001  # of the trunk's


def side(name: str) -> int:
    return 96 if name == "inception_v3" else 64


def built(name: str, **overrides) -> TrunkNetwork:
    """With BN statistics of noise, so that activations have a realistic scale."""
    torch.manual_seed(0)
    model = create_model("attention_trunk", trunk=name, **{"num_classes": 7, **overrides})
    assert isinstance(model, TrunkNetwork)
    return calibrated(model, side(name), model.in_chans)


def calibrated(model: nn.Module, size: int, in_chans: int = 3) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
    model.train()
    with torch.no_grad():
        model(torch.randn(8, in_chans, size, size))
    return model.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def named(request) -> tuple[str, TrunkNetwork]:
    return request.param, built(request.param)


def test_logits_masks_and_features_have_the_stated_shapes(named):
    name, model = named
    images = torch.randn(2, 3, side(name), side(name))
    masks = attention_masks(model, images)
    assert list(masks) == [f"stages.{i}.1" for i, count in enumerate(model.modules_per_stage) if count]
    assert len(masks) == FAMILIES[name]
    with torch.no_grad(), record_masks(model, features=True) as found:
        logits = model(images)
        last, maps = model.forward_intermediates(images)
    assert logits.shape == (2, 7)
    for module, mask in masks.items():
        assert mask.shape == found.before[module].shape == found.after[module].shape
        assert 0 <= mask.min() <= mask.max() <= 1
    assert [m.shape[1] for m in maps] == [level["num_chs"] for level in model.feature_info]
    assert last.shape == model.forward_features(images).shape
    assert torch.equal(model.forward_head(last), logits)


def test_at_the_start_it_computes_what_the_trunk_does(named):
    name, model = named
    images = torch.randn(64, 3, side(name), side(name))
    modules = [m for m in model.modules() if isinstance(m, AttentionModule)]
    masks = [m.mask for m in modules]
    with torch.no_grad():
        found = model(images)
        for module in modules:
            module.mask = None
        expected = model(images)
        for module, mask in zip(modules, masks, strict=True):
            module.mask = mask
    assert not torch.equal(found, expected)
    assert (found - expected).norm() < 0.2 * expected.norm()  # untrained, most differ by less than 0.1
    assert (found.argmax(1) == expected.argmax(1)).double().mean() >= 0.9  # untrained: logits are close to each other


def test_gradients_reach_every_mask_and_the_trunk(named):
    name, model = named
    for module in model.modules():  # timm starts the last BN of some blocks at 0, which stops gradients inside them
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    model.zero_grad()
    logits = model.train()(torch.randn(4, 3, side(name), side(name)))
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 5, 6])).backward()
    model.eval()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not {n for n in silent if ".mask." in n}
    assert len(silent) <= 0.02 * len(list(model.parameters())), silent


def test_odd_sizes_and_the_smallest_image(named):
    _, model = named
    least = model.min_size
    for height, width in ((least, least), (least + 1, least + 7), (2 * least + 3, least)):
        with torch.no_grad():
            assert torch.isfinite(model(torch.randn(1, 3, height, width))).all()
    with pytest.raises(ValueError, match=f"at least {least}x{least} px"):
        model(torch.randn(1, 3, least - 1, 224))


def test_masks_cost_at_most_a_quarter_of_the_trunk(named):
    name, _ = named
    plan = plan_of(trunk_of(name))
    images = torch.empty(1, 3, plan.image_size, plan.image_size, device="meta")
    with torch.device("meta"):
        plain, whole = (create_model("attention_trunk", trunk=name, learning=how) for how in ("plain", "residual"))
    assert macs(plain.eval(), images) == pytest.approx(plan.macs, rel=UNMATCHED_MACS)
    assert plan.macs < macs(whole.eval(), images) <= 1.25 * plan.macs


@pytest.mark.parametrize("name", MARKED)
def test_a_checkpoint_gives_the_network_back(name, tmp_path):
    model = built(name)
    overrides = {"num_classes": 7, "in_chans": 3, **model.resolved}
    card = Card(
        model="attention_trunk",
        overrides=overrides,
        classes=tuple("abcdefg"),
        preprocess=Preprocess(side(name), mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    weights = {WEIGHTS_PREFIX + key: value for key, value in model.state_dict().items()}
    save_checkpoint(path := tmp_path / "model.safetensors", weights, card.to_header())
    loaded = load(path)
    images = torch.randn(2, 3, side(name), side(name))
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    assert list(attention_masks(loaded, images)) == list(attention_masks(model, images))


@pytest.mark.parametrize("name", MARKED)
def test_timm_makes_features_of_it(name):
    model = timm.create_model("attention_trunk", trunk=name, features_only=True, out_indices=(1, 2, 3))
    size = 2 * side(name)
    with torch.no_grad():
        maps = calibrated(model, side(name))(torch.randn(1, 3, size, size))
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    for found, reduction in zip(maps, model.feature_info.reduction(), strict=True):
        assert abs(found.shape[-1] - size / reduction) <= 4  # Inception pads none of its first convolutions


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "resnet18" else pytest.mark.slow) for n in FAMILIES])
def test_onnx_gives_the_same_logits_and_masks(name, tmp_path):
    pytest.importorskip("onnxscript")
    from residual_attention.export.onnx import export_onnx

    model = built(name)
    card = Card(
        model="attention_trunk",
        overrides={"num_classes": 7, **model.resolved},
        classes=tuple("abcdefg"),
        preprocess=Preprocess(side(name), mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    parity = export_onnx(model, card, path := tmp_path / "m.onnx", image_size=side(name), in_chans=3, masks=True)
    assert parity.holds
    images = torch.randn(2, 3, side(name), side(name))
    exported, ours = attention_masks(load(path, engine="onnxruntime"), images), attention_masks(model, images)
    assert exported.keys() == ours.keys()
    for key, mask in ours.items():
        assert torch.allclose(exported[key], mask, atol=1e-4)


@pytest.mark.parametrize("name", MARKED)
def test_a_detector_stands_on_it(name):
    from residual_attention.detection.backbone import PyramidBackbone

    pyramid = PyramidBackbone(built(name, num_classes=0), 16, finest_stride=8).eval()
    with torch.no_grad():
        maps = pyramid(torch.randn(1, 3, 192, 128))
    assert [m.shape[1] for m in maps.values()] == [16] * 5


@pytest.mark.parametrize("name", MARKED)
def test_checkpointed_gradients_are_the_same(name):
    model = built(name).train()
    images = torch.randn(4, 3, side(name), side(name))

    def gradients() -> list[Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        model(images).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected = gradients()
    model.set_grad_checkpointing(True)
    for one, other in zip(expected, gradients(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * one.abs().max().item())


def test_its_lowest_map_is_about_7x7():
    model = create_model("attention_trunk", trunk="resnet50")
    sizes = []
    for module in model.modules():
        if isinstance(module, AttentionModule):
            branch = module.mask[1]
            while branch.inner is not None:
                branch = branch.inner
            branch.down.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        model.eval()(torch.randn(1, 3, 224, 224))
    assert sizes == [(7, 7)] * 4


def test_readings_and_grad_cam_work_on_it():
    pytest.importorskip("captum")
    model = built("resnet18")
    maps, found = method_maps(model, torch.randn(2, 3, 64, 64), torch.Generator().manual_seed(0))
    assert {"class, combined", "mean, stages.3.1", "Grad-CAM"} <= set(maps)
    assert len(found.masks) == 4


@pytest.mark.parametrize(
    "trunk, why",
    [
        ("vit_tiny_patch16_224", "its features are not maps"),
        ("swin_tiny_patch4_window7_224", "its features are not maps"),
        ("dla34", "none of its stages has a second block"),
        ("hrnet_w18_small", "do not run one after the other"),
    ],
)
def test_a_network_without_stages_is_refused_and_some_that_work_are_named(trunk, why):
    with pytest.raises(ValueError, match=f"{trunk} cannot be a trunk: .*{why}.*some that can: resnet18, resnet50"):
        create_model("attention_trunk", trunk=trunk)


@pytest.mark.parametrize(
    "trunk, why",
    [("resnet51", "did you mean resnet"), ("attention56", "masks of its own"), ("resnet18.x", "tags of resnet18: ")],
)
def test_a_name_that_is_no_trunk_is_refused(trunk, why):
    with pytest.raises(ValueError, match=why):
        create_model("attention_trunk", trunk=trunk)


def test_the_networks_that_errors_name_do_work():
    from residual_attention.trunks.backbone import SOME_THAT_WORK

    for name in SOME_THAT_WORK:
        assert plan_of(trunk_of(name)).layout.with_attention


@pytest.mark.parametrize(
    "overrides, why",
    [
        ({"modules": 2}, "has no option 'modules'"),
        ({"mask_depths": (1, 1)}, "one value for each of 4 stages"),
        ({"mask_widths": 6}, "multiples of 4"),
        ({"trunk_args": ["width"]}, "key=value"),
        ({"trunk_args": {"no_such": 1}}, "no_such"),
        ({"learning": "input", "trunk": "densenet121"}, "the same width"),
    ],
)
def test_values_that_do_not_fit_are_refused(overrides, why):
    with pytest.raises(ValueError, match=why):
        create_model("attention_trunk", **{"trunk": "resnet18", **overrides})


def test_ablations_and_the_trunks_own_arguments():
    images = torch.randn(2, 3, 64, 64)
    for overrides in (
        {"mask_activation": "spatial"},
        {"mask_activation": "channel"},
        {"mask_structure": "local"},
        {"learning": "naive"},
        {"learning": "input"},
        {"skip": False},
        {"r": 2},
        {"trunk_args": ["drop_path_rate=0.1"]},
        {"trunk_args": {"pretrained_cfg_overlay": {"input_size": (3, 32, 32)}}},
        {"mask_depths": 1, "mask_widths": 8},
    ):
        model = create_model("attention_trunk", 3, trunk="resnet18", **overrides)
        assert model(images).shape == (2, 3)
    assert create_model("attention_trunk", trunk="resnet18", in_chans=1)(torch.randn(2, 1, 64, 64)).shape == (2, 1000)
