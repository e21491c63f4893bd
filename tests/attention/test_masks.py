"""Recording masks has no side effects, and masks are drawn in the right place."""

import numpy as np
import pytest
import torch

from residual_attention import attention_masks, create_model
from residual_attention.attention.masks import plain_network, record_masks
from residual_attention.attention.overlay import as_picture, display_range, mask_overlay


def hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = create_model("attention92_cifar")
    network.train()
    with torch.no_grad():
        for _ in range(20):  # BN statistics from real activations
            network(torch.randn(8, 3, 32, 32))
    return network


def test_one_mask_a_module_named_by_its_place(model):
    masks = attention_masks(model, torch.randn(2, 3, 32, 32))
    assert list(masks) == ["stages.0.1", "stages.0.2", "stages.1.1", "stages.1.2", "stages.2.1", "stages.2.2"]
    assert [tuple(m.shape) for m in masks.values()][::2] == [(2, 64, 32, 32), (2, 128, 16, 16), (2, 256, 8, 8)]
    assert all(m.min() > 0 and m.max() < 1 for m in masks.values())
    assert model.training
    assert hooks(model) == 0


def test_recording_changes_no_output_and_leaves_no_hook_after_an_exception(model):
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        plain = model(images)
        with record_masks(model) as recording:
            assert torch.equal(model(images), plain)
        assert len(recording.masks) == 6
    with pytest.raises(ValueError, match="too small"):
        attention_masks(model, torch.randn(1, 3, 8, 8))
    assert hooks(model) == 0
    with pytest.raises(KeyError), record_masks(model):
        raise KeyError
    assert hooks(model) == 0


def test_modules_that_were_frozen_stay_frozen(model):
    frozen = model.stages[0][0].preact
    frozen.eval()
    attention_masks(model, torch.randn(1, 3, 32, 32))
    assert model.training
    assert model.stages[1].training
    assert not any(module.training for module in frozen.modules())


def test_features_before_and_after_obey_the_equation(model):
    model.eval()
    with torch.no_grad(), record_masks(model, features=True) as recording:
        model(torch.randn(1, 3, 32, 32))
    for name, mask in recording.masks.items():
        expected = (1 + mask) * recording.before[name]
        assert torch.allclose(recording.after[name], expected, atol=1e-5)


def test_wrapped_networks_are_seen_through(model):
    compiled = torch.compile(model, backend="eager")
    assert plain_network(compiled) is model
    assert plain_network(torch.nn.DataParallel(model)) is model
    assert len(attention_masks(compiled, torch.randn(1, 3, 16, 16))) == 6


def test_overlay_is_brightest_where_the_mask_is():
    mask = torch.zeros(4, 4)
    mask[0, 3] = 1.0
    drawn = mask_overlay(np.full((64, 64, 3), 128, np.uint8), mask)
    assert drawn.shape == (64, 64, 3)
    assert drawn.dtype == np.uint8
    brightness = drawn.sum(2)
    row, column = np.unravel_index(brightness.argmax(), brightness.shape)
    assert row < 8  # the half of the mask's cell that no other cell reaches
    assert column >= 56


def test_signed_masks_are_drawn_about_zero():
    assert display_range(torch.tensor([[-0.2, 0.1]]), signed=True) == pytest.approx((-0.2, 0.2))
    drawn = mask_overlay(np.zeros((3, 3, 3), np.uint8), torch.tensor([[-1.0, 0.0, 1.0]]).repeat(3, 1), signed=True)
    left, middle, right = drawn[1].astype(int)
    assert left[2] > left[0]  # purple
    assert right[0] > right[2]  # orange
    assert np.ptp(middle) < 10  # neutral


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ((0.2, 0.6), (0.2, 0.6)),
        ((0.49, 0.5), (0.445, 0.545)),  # a fifth of 0.5, about the middle
        ((0.0, 1e-4), (0.0, 1e-4)),  # small and not flat
        ((0.5, 0.5), (0.45, 0.55)),
        ((0.0, 0.0), (0.0, 1e-6)),
    ],
)
def test_colours_span_a_maps_own_range_but_at_least_a_fifth_of_its_largest_value(values, ends):
    assert display_range(torch.tensor([*values, float("nan")]), signed=False) == pytest.approx(ends)


def test_noise_on_a_nearly_flat_mask_is_hardly_seen():
    noise = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    gray = np.full((64, 64, 3), 128, np.uint8)
    contrasts = [np.ptp(mask_overlay(gray, 0.5 + size * noise).sum(2).astype(int)) for size in (0.002, 0.2)]
    assert contrasts[0] < 0.1 * contrasts[1]


def test_constant_masks_and_gray_images_are_drawn_too():
    picture = as_picture(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))[0]
    assert np.isfinite(mask_overlay(picture, torch.full((2, 2), 0.5))).all()
    with pytest.raises(ValueError, match="uint8"):
        as_picture(torch.zeros(1, 1, 8, 8))
