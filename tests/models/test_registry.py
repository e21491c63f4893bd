"""The contract of every registered network."""

import pytest
import timm
import torch
from torch import nn

from residual_attention.models import AttentionModule, create_model, default_image_size, ledger_row, list_models

NAMES = list_models()
# The wide and deep ones are checked with fewer modules where only the structure matters.
SMALL = {name: {"modules": 1} if "452" in name or "236" in name or "164" in name else {} for name in NAMES}

LEDGER = {  # parameters to the digit; GMACs as rounded in the design (which has 10.71 for 10.704, 0.255 for 0.2545)
    "attention56": (31_810_728, "6.271"),
    "attention92": (52_466_344, "10.534"),
    "attentionnext56": (31_318_824, "6.42"),
    "attentionnext92": (52_102_952, "10.70"),
    "attention56_cifar_wide": (7_204_330, "0.169"),
    "attention92_cifar_wide": (12_172_266, "0.254"),
    "attention92_cifar_wide_nopool": (12_170_730, "1.009"),
}
CIFAR_MILLIONS = {
    "attention56_cifar": (1.149, 0.123),
    "attention92_cifar": (1.960, 0.212),
    "attention128_cifar": (2.771, 0.301),
    "attention164_cifar": (3.581, 0.390),
    "attention236_cifar": (5.203, 0.568),
    "attention452_cifar": (10.300, 0.984),
}


def small_size(name: str) -> int:
    return 32 if default_image_size(name) == 224 else 16


def warm(model: nn.Module, size: int, in_chans: int = 3) -> nn.Module:
    """Set BN statistics from real activations, so that activations neither explode nor vanish in eval mode."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, in_chans, size, size))
    return model.eval()


@pytest.mark.parametrize("name", LEDGER)
def test_parameters_match_to_the_digit(name):
    row = ledger_row(name)
    parameters, gmacs = LEDGER[name]
    assert row.parameters == parameters
    assert f"{row.macs / 1e9:.{len(gmacs.partition('.')[2])}f}" == gmacs


@pytest.mark.parametrize("name", CIFAR_MILLIONS)
def test_cifar_networks_match_the_ledger(name):
    row = ledger_row(name)
    millions, gmacs = CIFAR_MILLIONS[name]
    assert round(row.parameters / 1e6, 3) == millions
    assert round(row.macs / 1e9, 3) == gmacs


def test_attentioninception_has_the_papers_parameters_within_one_percent():
    assert ledger_row("attentioninception56").parameters == pytest.approx(31.8e6, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_trunk_is_as_deep_as_the_name_says(name):
    row = ledger_row(name)
    assert row.trunk_depth == int("".join(filter(str.isdigit, name.split("_")[0])))
    mean = sum(row.modules) / len(row.modules)
    p, t = (2, 4) if "452" in name else (1, 2)
    assert row.trunk_depth == 9 * mean * (2 * p + t) + 20


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients_reach_everywhere(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=7, **SMALL[name]).train()
    size = 2 * small_size(name) if default_image_size(name) == 224 else small_size(name)
    logits = model(torch.randn(4, 3, size, size))
    assert logits.shape == (4, 7)
    assert torch.isfinite(logits).all()
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 5, 6])).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_any_size_from_the_smallest_up(name):
    model = warm(create_model(name, num_classes=3, **SMALL[name]), small_size(name))
    least = small_size(name)
    assert model.min_size == least
    for height, width in ((least, least), (least + 1, least + 7), (2 * least + 3, least)):
        with torch.no_grad():
            assert torch.isfinite(model(torch.randn(1, 3, height, width))).all()
    with pytest.raises(ValueError, match=f"at least {least}x{least} px"):
        model(torch.randn(1, 3, least - 1, 64))


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_and_channels_last_change_nothing(name):
    torch.manual_seed(0)
    size = small_size(name)
    model = warm(create_model(name, num_classes=5, **SMALL[name]), size)
    other = create_model(name, num_classes=5, **SMALL[name]).eval()
    other.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(other(images), expected)
        nhwc = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(nhwc, expected, atol=1e-4 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("name", NAMES)
def test_reset_classifier_changes_the_head_alone(name):
    with torch.device("meta"):
        model = create_model(name, **SMALL[name])
        body = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.head.parameters())
        images = torch.randn(2, 3, 64, 64)
        model.reset_classifier(4)
        assert model(images).shape == (2, 4)
        assert model.get_classifier().out_features == 4
        model.reset_classifier(0)
        assert model(images).shape == (2, model.num_features)
        assert sum(p.numel() for p in model.parameters()) == body


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax", "fast", ""])
def test_the_head_pools_as_timms_does(pool):
    model = create_model("attention56_cifar", num_classes=5).eval()
    model.reset_classifier(0 if pool == "" else 6, pool)
    theirs = timm.layers.ClassifierHead(256, 0 if pool == "" else 6, pool)
    theirs.load_state_dict(model.head.state_dict())
    features = torch.randn(2, 256, 4, 4)
    assert torch.equal(model.forward_head(features), theirs(features))
    assert torch.equal(model.forward_head(features, pre_logits=True), theirs(features, pre_logits=True))
    assert model.head.num_features == theirs.num_features


def test_a_missing_feature_level_is_refused():
    model = create_model("attention56_cifar")
    for indices in ([5], [-6], 6, 0, []):
        with pytest.raises(ValueError, match="5 feature levels"):
            model.forward_intermediates(torch.randn(1, 3, 32, 32), indices)


@pytest.mark.parametrize("name", NAMES)
def test_feature_maps_have_the_stated_channels_and_strides(name):
    with torch.device("meta"):
        model = create_model(name, **SMALL[name])
        size = 128
        images = torch.randn(1, 3, size, size)
        last, maps = model.forward_intermediates(images)
        assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
        assert [size // m.shape[2] for m in maps] == [info["reduction"] for info in model.feature_info]
        assert last.shape == maps[-1].shape == model.forward_features(images).shape
        assert [m.shape for m in model.forward_intermediates(images, [-1, 1], intermediates_only=True)] == [
            maps[1].shape,
            maps[4].shape,
        ]


@pytest.mark.parametrize("name", NAMES)
def test_timm_makes_features_of_it(name):
    with torch.device("meta"):
        model = timm.create_model(name, features_only=True, out_indices=(1, 3), **SMALL[name])
        maps = model(torch.randn(1, 3, 96, 96))
        assert [m.shape[1] for m in maps] == model.feature_info.channels()
        assert [96 // m.shape[2] for m in maps] == model.feature_info.reduction()


def test_timm_lists_and_builds_the_family():
    assert set(NAMES) <= set(timm.list_models())
    model = timm.create_model("attention56_cifar", num_classes=4, in_chans=1, mask_activation="spatial")
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 4)


CAPTURED = ("attentionnext56", "attentioninception56", "attention56_cifar")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in CAPTURED else pytest.mark.slow) for n in NAMES])
def test_the_graph_is_captured_whole(name):
    model = warm(create_model(name, num_classes=3, **SMALL[name]), small_size(name))
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    images = torch.randn(1, 3, small_size(name), small_size(name))
    with torch.no_grad():
        assert torch.allclose(compiled(images), model(images), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["preact", "resnext", "inception", "vgg", "dense"])
def test_inductor_agrees_with_eager(unit):
    model = warm(create_model("attention56_cifar", unit=unit, modules=1, mask_depths=(1, 1, 1)), 16)
    torch.compiler.reset()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(torch.compile(model)(images), expected, atol=1e-3 * max(1, expected.abs().max().item()))


def test_lowest_mask_map_of_224_px_is_7x7():
    with torch.device("meta"):
        model = create_model("attention56")
        sizes = []
        for module in model.modules():
            if isinstance(module, AttentionModule):
                branch = module.mask[0]
                while branch.inner is not None:
                    branch = branch.inner
                branch.down.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
        model(torch.randn(1, 3, 224, 224))
    assert sizes == [(7, 7)] * 3


@pytest.mark.parametrize("in_chans", [1, 4])
def test_any_number_of_channels(in_chans):
    model = create_model("attention56_cifar", in_chans=in_chans)
    assert model(torch.randn(2, in_chans, 16, 16)).shape == (2, 10)
