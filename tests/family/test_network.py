"""The constructor's overrides, its errors, and gradient checkpointing."""

import pytest
import timm
import torch
from torch import nn

from residual_attention.family.units import DenseUnit, InceptionUnit, PreActUnit, ResNeXtUnit, VGGUnit, conv
from residual_attention.models import AttentionModule, ResidualAttentionNetwork, create_model, ledger_row


def tiny(**changes) -> ResidualAttentionNetwork:
    return create_model("attention56_cifar", **changes)


def modules_of(model: nn.Module) -> list[AttentionModule]:
    return [m for m in model.modules() if isinstance(m, AttentionModule)]


def test_p_t_r_count_their_units():
    first = modules_of(tiny(p=2, t=3, r=2))[0]
    branch = first.mask[0]
    assert (len(first.pre), len(first.post), len(first.trunk)) == (2, 2, 3)
    assert (len(branch.down), len(branch.up)) == (2, 2)


def test_modules_widths_and_depths_shape_the_stages():
    model = tiny(modules=(1, 2, 3), widths=(32, 64, 128), mask_depths=(2, 1, 1))
    assert [len(stage) - 1 for stage in model.stages] == [1, 2, 3]
    assert [info["num_chs"] for info in model.feature_info] == [16, 32, 64, 128, 256]
    assert [m.mask[0].inner is not None for m in modules_of(model)] == [True] + [False] * 5


def test_without_skip_the_inner_branch_stands_alone():
    assert all(m.mask[0].skip is None for m in modules_of(tiny(skip=False)))
    assert ledger_row("attention56_cifar", skip=False).parameters < ledger_row("attention56_cifar").parameters


def test_local_masks_have_the_same_units_and_keep_the_size():
    plain, local = ledger_row("attention56_cifar"), ledger_row("attention56_cifar", mask_structure="local")
    assert local.parameters == plain.parameters
    assert local.macs > plain.macs
    model = tiny(mask_structure="local")
    assert not [m for m in model.modules() if isinstance(m, nn.MaxPool2d)]


@pytest.mark.parametrize(
    "unit, everywhere, trunk",
    [
        ("preact", PreActUnit, PreActUnit),
        ("resnext", ResNeXtUnit, ResNeXtUnit),
        ("inception", InceptionUnit, InceptionUnit),
        ("vgg", PreActUnit, VGGUnit),
        ("dense", PreActUnit, DenseUnit),
    ],
)
def test_units_replace_what_they_should(unit, everywhere, trunk):
    first = modules_of(tiny(unit=unit))[0]
    assert type(first.pre[0]) is everywhere
    assert type(first.mask[0].down[0]) is everywhere
    assert type(first.trunk[0]) is trunk
    assert isinstance(first.mask[1][0], nn.Conv2d) == (unit == "resnext")


def test_resnext_network_has_no_norm_before_its_pool():
    assert isinstance(tiny(unit="resnext").norm, nn.Identity)
    unit = ResNeXtUnit(64, 128, 2)
    assert unit.residual[1][0].groups == 32
    assert unit.residual[1][0].out_channels == 64
    assert isinstance(unit.shortcut[1], nn.BatchNorm2d)


@pytest.mark.parametrize("mask_activation", ["mixed", "channel", "spatial"])
@pytest.mark.parametrize("size", [(16, 16), (19, 31), (45, 16)])
def test_every_mask_activation_is_finite_at_every_size(mask_activation, size):
    model = tiny(mask_activation=mask_activation).train()
    assert torch.isfinite(model(torch.randn(2, 3, *size))).all()


def test_deeper_masks_need_larger_images():
    model = tiny(mask_depths=(5, 2, 1))
    assert model.min_size > 16
    model.eval()
    assert torch.isfinite(model(torch.zeros(1, 3, model.min_size, model.min_size))).all()
    with pytest.raises(ValueError, match="too small"):
        model(torch.zeros(1, 3, model.min_size - 1, model.min_size))


def test_he_initialisation():
    torch.manual_seed(0)
    model = create_model("attention56_cifar")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2 / module.groups
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert getattr(module, "bias", None) is None or not isinstance(module, nn.Conv2d)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"unit": "resnet"}, "unit must be one of preact, resnext"),
        ({"mask_activation": "softmax"}, "mask_activation must be one of mixed, channel, spatial"),
        ({"mask_structure": "unet"}, "mask_structure must be one of encoder_decoder, local"),
        ({"learning": "both"}, "learning must be one of residual, naive"),
        ({"stem": "vgg"}, "stem must be one of imagenet"),
        ({"p": -1}, "p must be an integer of at least 0"),
        ({"t": 0}, "t must be an integer of at least 1"),
        ({"r": 0}, "r must be an integer of at least 1"),
        ({"r": 1.5}, "r must be an integer"),
        ({"modules": (1, 2)}, "modules needs one value for each of 3 stages"),
        ({"modules": 0}, "modules must be an integer of at least 1"),
        ({"mask_depths": (1, 0, 1)}, "mask_depths must be"),
        ({"widths": (64, 128, 250)}, "widths must be multiples of 4 for unit=preact"),
        ({"widths": (64, 128, 288), "unit": "resnext"}, "widths must be multiples of 64 for unit=resnext"),
        ({"widths": ()}, "widths needs one width for each stage"),
        ({"widths": 64}, "widths needs one width for each stage"),
        ({"modules": 1.5}, "modules must be an integer"),
        ({"mask_depths": None}, "mask_depths must be an integer"),
        ({"dropout": "x"}, "dropout must lie in"),
        ({"unit": ["preact"]}, "unit must be one of"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"skip": 1}, "skip must be True or False"),
        ({"in_chans": 0}, "in_chans must be"),
        ({"num_classes": -1}, "num_classes must be"),
        ({"mask_activaton": "mixed"}, "did you mean mask_activation"),
    ],
)
def test_errors_for_wrong_values_say_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_errors_for_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="did you mean attention56_cifar"):
        create_model("atention56_cifar")
    with pytest.raises(RuntimeError, match="attention57"):
        timm.create_model("attention57")


def test_checkpointing_changes_neither_gradients_nor_statistics():
    torch.manual_seed(0)
    plain, saving = tiny(), tiny()
    saving.load_state_dict(plain.state_dict())
    saving.set_grad_checkpointing(True)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([1, 2, 3, 4])
    for model in (plain, saving):
        nn.functional.cross_entropy(model.train()(images), labels).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_checkpointing_makes_the_deepest_network_trainable():
    saved: dict[bool, int] = {}
    for checkpointing in (False, True):
        model = create_model("attention452_cifar", modules=2).train()
        model.set_grad_checkpointing(checkpointing)
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(torch.randn(2, 3, 16, 16)).sum()
        saved[checkpointing] = kept
        loss.backward()
    assert saved[True] < saved[False] / 4


def test_pooled_features_without_a_classifier():
    model = tiny(num_classes=0, dropout=0.5).eval()
    images = torch.randn(2, 3, 16, 16)
    features = model(images)
    assert features.shape == (2, 256)
    assert torch.equal(model.forward_head(model.forward_features(images), pre_logits=True), features)


def test_without_masks_it_is_the_residual_network_of_the_papers_baseline():
    """ResNet-164, pre-activation: 54 bottleneck units, a stem and a classifier; every parameter learns."""
    model = create_model("attention164_cifar", learning="plain").train()
    assert model.trunk_depth == 164
    units = [m for m in model.modules() if isinstance(m, PreActUnit)]
    assert 3 * len(units) + 2 == 164
    assert not any("mask" in name for name, _ in model.named_parameters())
    torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_network_without_masks_says_so_when_asked_for_them():
    from residual_attention.attention.readings import look

    model = create_model("attention56_cifar", learning="plain")
    with pytest.raises(ValueError, match="has no masks"):
        look(model, torch.randn(1, 3, 16, 16))


def test_a_narrow_strided_shortcut_has_the_gradients_of_the_usual_convolution():
    """oneDNN's kernel for it writes past its memory in channels_last."""
    torch.manual_seed(0)
    ours = conv(8, 16, 1, 2)
    theirs = nn.Conv2d(8, 16, 1, 2, bias=False)
    theirs.load_state_dict(ours.state_dict())
    theirs.double()  # which oneDNN leaves to others
    images = torch.randn(2, 8, 9, 12)
    for layout in (torch.contiguous_format, torch.channels_last):
        ours.zero_grad()
        found = ours(images.contiguous(memory_format=layout))
        found.square().sum().backward()
        theirs.zero_grad()
        expected = theirs(images.double())
        expected.square().sum().backward()
        torch.testing.assert_close(found, expected.float())
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad.float())
    assert type(conv(16, 32, 1, 2)) is nn.Conv2d
