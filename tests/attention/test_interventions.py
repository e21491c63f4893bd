"""Interventions replace what they say they replace, and nothing else."""

import json

import pytest
import torch

from residual_attention import create_model
from residual_attention.attention.interventions import ALL, INTERVENTIONS, masks_replaced
from residual_attention.attention.masks import attention_masks, attention_modules
from residual_attention.cli.main import main
from residual_attention.errors import UserError


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    return torch.rand(3, 4, 5, 6, generator=generator())


def test_constants(mask):
    assert torch.equal(INTERVENTIONS["0"](mask, generator()), torch.zeros_like(mask))
    assert torch.equal(INTERVENTIONS["1"](mask, generator()), torch.ones_like(mask))
    mean = INTERVENTIONS["mean over positions"](mask, generator())
    assert torch.allclose(mean, mask.mean((2, 3), keepdim=True).expand_as(mask))


def test_shuffled_positions_move_all_channels_together(mask):
    coded = torch.arange(30.0).view(1, 1, 5, 6) + 100 * torch.arange(4.0).view(1, 4, 1, 1) + torch.zeros_like(mask)
    shuffled = INTERVENTIONS["positions shuffled"](coded, generator())
    assert not torch.equal(shuffled, coded)
    assert torch.equal(shuffled.flatten(2).sort(dim=2).values, coded.flatten(2))
    assert (shuffled[:, 1:] - shuffled[:, :-1] == 100).all()
    assert not torch.equal(shuffled[0], shuffled[1])


def test_shuffled_channels_keep_every_map(mask):
    shuffled = INTERVENTIONS["channels shuffled"](mask, generator())
    assert not torch.equal(shuffled, mask)
    for image, original in zip(shuffled, mask, strict=True):
        assert sorted(image.flatten(1).sum(1).tolist()) == pytest.approx(sorted(original.flatten(1).sum(1).tolist()))


def test_another_images_mask(mask):
    assert torch.equal(INTERVENTIONS["another image's"](mask, generator())[1], mask[0])


def test_only_the_named_modules_change_and_only_within_the_context():
    model = create_model("attention56_cifar", widths=(16, 16, 16), mask_depths=(1, 1, 1), t=1).eval()
    images = torch.randn(2, 3, 32, 32, generator=generator())
    before = attention_masks(model, images)
    names = list(before)
    with masks_replaced(model, INTERVENTIONS["0"], [names[1]], generator()):
        within = attention_masks(model, images)
    assert torch.equal(within[names[0]], before[names[0]])
    assert not within[names[1]].any()
    assert not torch.equal(within[names[2]], before[names[2]])  # computed from changed features
    after = attention_masks(model, images)
    assert all(torch.equal(after[name], before[name]) for name in names)
    with (
        pytest.raises(UserError, match=r"no attention module 'stages\.9\.9'"),
        masks_replaced(model, INTERVENTIONS["0"], ["stages.9.9"], generator()),
    ):
        pass


def test_a_mask_of_0_leaves_the_trunk():
    model = create_model("attention56_cifar", widths=(16, 16, 16), mask_depths=(1, 1, 1), t=1).eval()
    module = next(iter(attention_modules(model).values()))
    x = torch.randn(1, model.widths[0], 32, 32, generator=generator())
    name = next(iter(attention_modules(model)))
    with torch.no_grad(), masks_replaced(model, INTERVENTIONS["0"], [name], generator()):
        assert torch.allclose(module(x), module.post(module.trunk(module.pre(x))), atol=1e-6)


def test_the_command_writes_figures_and_a_picture(tmp_path, capsys):
    out = tmp_path / "effects"
    arguments = ["attend", "attention56_cifar.digits", "digits", "--intervene", "--limit", "12", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 12
    assert found["unchanged"]["changed_pct"]["mean"] == 0
    assert set(found["effects"][ALL]) == set(INTERVENTIONS)
    assert found["effects"][ALL]["1"]["changed_pct"]["mean"] > 0
    assert {file.name for file in out.glob("[!.]*")} == {f"interventions.{kind}" for kind in ("json", "csv", "png")}
    assert json.loads((out / "interventions.json").read_text())["effects"] == found["effects"]


def test_contradictions_are_one_line(capsys):
    assert main(["attend", "attention56_cifar.digits", "digits", "--intervene", "--measure"]) == 2
    assert "--measure and --intervene cannot be combined" in capsys.readouterr().err
    assert main(["attend", "attention56_cifar.digits", "digits", "more", "--intervene"]) == 2
    assert "--intervene takes one data set or folder" in capsys.readouterr().err
