"""Each reading matches its definition, and taking one leaves the network unchanged."""

import pytest
import torch

from residual_attention import create_model
from residual_attention.attention.readings import combined, explained, look, read, signed_sum
from residual_attention.attention.reductions import excited_channels


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = create_model("attention56_cifar", modules=1, widths=(16, 32, 32))
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(8, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_response_is_mask_times_gradient(model, images):
    found = look(model, images)
    assert torch.equal(found.targets, model(images).argmax(1))
    name, step = "stages.2.1", 1e-2

    def logit(factor: float) -> torch.Tensor:
        """The class's logit with the module's mask scaled."""
        handle = model.get_submodule(name).mask.register_forward_hook(lambda _m, _i, out: out * factor)
        with torch.no_grad():
            values = model(images).gather(1, found.targets[:, None])[:, 0]
        handle.remove()
        return values

    slope = (logit(1 + step) - logit(1 - step)) / (2 * step)  # d y / d factor = sum of M * dy/dM
    assert torch.allclose(found.contributions[name].sum((1, 2, 3)), slope, atol=2e-3, rtol=2e-2)


def test_excited_is_the_channel_that_makes_most_of_the_class(model, images):
    found = look(model, images)
    maps = read(found, "excited")
    for name, contribution in found.contributions.items():
        channels = excited_channels(contribution)
        assert torch.equal(channels, contribution.sum((2, 3)).argmax(1))
        for image, channel in enumerate(channels.tolist()):
            assert torch.equal(maps[name][image], found.masks[name][image, channel])


def test_mean_class_and_single_channels(model, images):
    found = look(model, images)
    for name, mask in found.masks.items():
        assert torch.allclose(read(found, "mean")[name], mask.mean(1))
        assert torch.equal(read(found, 5)[name], mask[:, 5])
        assert torch.equal(read(found, "class")[name], found.contributions[name].sum(1).clamp(min=0))


def test_targets_select_the_class(model, images):
    first = look(model, images, targets=torch.tensor([0, 0, 0]))
    second = look(model, images, targets=torch.tensor([1, 1, 1]))
    assert torch.equal(first.logits, second.logits)
    assert not torch.allclose(first.contributions["stages.2.1"], second.contributions["stages.2.1"])


def test_the_network_is_left_unchanged(model, images):
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        found = look(model, images, features=True)  # gradients also reach the masks of a frozen network
        assert model.training
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        recorded = (found.masks, found.before, found.contributions)
        assert not any(t.requires_grad for part in recorded for t in part.values())
    finally:
        model.eval().requires_grad_(True)


def test_unknown_readings_and_missing_gradients_are_reported(model, images):
    found = look(model, images, gradients=False)
    assert not found.contributions
    with pytest.raises(ValueError, match="needs gradients"):
        read(found, "class")
    with pytest.raises(ValueError, match=r"one of mean, excited, class, not 'meen' \(did you mean mean\?\)"):
        read(found, "meen")
    with pytest.raises(ValueError, match="between 0 and 31"):
        read(found, 32)
    assert list(read(found, 16)) == ["stages.1.1", "stages.2.1"]  # the first has 16 channels


def test_combination_weights_modules_equally():
    maps = {"a": torch.zeros(1, 4, 4), "b": torch.full((1, 2, 2), 1e-3), "c": torch.full((1, 2, 2), -1.0)}
    maps["a"][0, 0, 0] = 1e3
    total = combined(maps, 4)
    assert total.sum() == pytest.approx(2.0)  # c is nowhere positive
    assert total[0, 3, 3] == pytest.approx(1 / 16)
    with pytest.raises(ValueError, match="no attention modules"):
        combined({}, 4)


def test_a_class_against_its_strongest_rival():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]], requires_grad=True)
    targets = torch.tensor([0, 2])
    assert explained(logits, targets, rival=False).tolist() == [3.0, -1.0]
    score = explained(logits, targets, rival=True)
    assert score.tolist() == [1.0, -6.0]
    (slopes,) = torch.autograd.grad(score.sum(), logits)
    assert slopes.tolist() == [[1.0, 0.0, -1.0], [0.0, -1.0, 1.0]]
    assert explained(logits[:, :1], targets * 0, rival=True).tolist() == [3.0, 0.0]  # no other class


def test_evidence_against_the_class_takes_from_evidence_for_it():
    one, other = torch.zeros(1, 2, 2, 2), torch.zeros(1, 3, 2, 2)
    one[0, :, 0, 0], one[0, 0, 1, 1] = 0.5, 1.0  # half of it at each of two positions
    other[0, 2, 0, 0], other[0, 1, 0, 1] = -3.0, 9.0
    found = signed_sum({"a": one, "b": other}, 2)
    assert found[0].flatten().tolist() == pytest.approx([0.5 - 0.25, 0.75, 0.0, 0.5])
