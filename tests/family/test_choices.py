"""The choices of the network: each resolves, the defaults agree, and every learning works with everything else."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn

from residual_attention.attention.masks import attention_masks, masks_are_signed, record_masks
from residual_attention.family import ResidualAttentionNetwork, create_model, list_models
from residual_attention.family.attention import AttentionModule
from residual_attention.family.choices import (
    CHOICES,
    LEARNINGS,
    MASK_ACTIVATIONS,
    MASK_STRUCTURES,
    UNITS,
    plugins_needed,
    signed_masks,
)


def test_names_and_help_cost_no_import_of_torch():
    code = "import sys, residual_attention.family.choices as c; c.UNITS.help; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_every_choice_is_implemented_explained_and_the_first_the_default(choices):
    for name in choices:
        choices.value(name)
        assert choices.choice(name).text
        assert f"{name}: " in choices.help
    default = inspect.signature(ResidualAttentionNetwork).parameters[choices.kind].default
    assert default == choices.default


def thin(name: str = "attention56_cifar", **changes) -> ResidualAttentionNetwork:
    torch.manual_seed(0)
    width = 16 if changes.get("unit") not in ("resnext", "inception") else 64
    small = {"modules": 1, "widths": (width, width, width), "num_classes": 4}
    return create_model(name, **{**small, **changes})


@pytest.mark.parametrize("learning", LEARNINGS)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("skip", [True, False])
def test_every_learning_trains_every_parameter(learning, unit, skip):
    model = thin(learning=learning, unit=unit, skip=skip, final_width=64).train()
    nn.functional.cross_entropy(model(torch.randn(4, 3, 16, 16)), torch.arange(4)).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", list_models())
def test_input_learning_has_the_parameters_of_residual_learning(name):
    with torch.device("meta"):
        residual, of_input = create_model(name), create_model(name, learning="input")
    assert residual.state_dict().keys() == of_input.state_dict().keys()
    assert of_input.min_size == residual.min_size


@pytest.mark.parametrize("activation", MASK_ACTIVATIONS)
@pytest.mark.parametrize("structure", MASK_STRUCTURES)
def test_what_is_recorded_of_input_learning_is_its_formula(activation, structure):
    model = thin(learning="input", mask_activation=activation, mask_structure=structure).eval()
    shared = {}
    for name, module in model.named_modules():
        if isinstance(module, AttentionModule):
            module.pre.register_forward_hook(lambda _m, _i, out, name=name: shared.__setitem__(name, out))
    with torch.no_grad(), record_masks(model, features=True) as found:
        model(torch.randn(2, 3, 17, 19))
    assert list(found.masks) == ["stages.0.1", "stages.1.1", "stages.2.1"]
    for name, mask in found.masks.items():
        assert torch.equal(found.after[name], torch.addcmul(shared[name], mask, found.before[name]))


@pytest.mark.parametrize("activation, signed", [("mixed", False), ("channel", True), ("spatial", False)])
def test_a_network_tells_whether_its_masks_are_signed(activation, signed):
    model = thin(mask_activation=activation)
    assert masks_are_signed(model) is signed
    assert masks_are_signed(nn.DataParallel(model)) is signed
    assert signed_masks({"mask_activation": activation}) is signed
    lowest = min(mask.min().item() for mask in attention_masks(model, torch.randn(2, 3, 16, 16)).values())
    assert (lowest < 0) is signed


def test_the_packages_own_choices_need_no_plugin():
    assert not signed_masks({})
    assert plugins_needed({"unit": "vgg", "learning": "input", "widths": [16], "stem": None}) == ()
