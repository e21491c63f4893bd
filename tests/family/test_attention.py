"""The attention module matches the authors': checked against an independent implementation, and for known mistakes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from residual_attention.family.attention import (
    AttentionModule,
    ChannelMask,
    MixedMask,
    SoftMaskBranch,
    SpatialMask,
)
from residual_attention.family.choices import LEARNINGS
from residual_attention.family.units import PREACT, PreActUnit


def module(chs: int = 16, depth: int = 2, **changes) -> AttentionModule:
    torch.manual_seed(0)
    return AttentionModule(chs, depth, PREACT, **{"p": 1, "t": 2, "r": 1, **changes})


# An independent implementation of the network, as functions of its weights


def bn_relu(x, layer):
    return F.relu(F.batch_norm(x, layer[0].running_mean, layer[0].running_var, layer[0].weight, layer[0].bias))


def unit(x, u: PreActUnit):
    a = bn_relu(x, u.preact)
    stride = u.residual[2].stride
    y = F.conv2d(a, u.residual[0].weight)
    y = F.conv2d(bn_relu(y, u.residual[1]), u.residual[2].weight, stride=stride, padding=1)
    y = F.conv2d(bn_relu(y, u.residual[3]), u.residual[4].weight)
    return y + (x if u.shortcut is None else F.conv2d(a, u.shortcut.weight, stride=stride))


def units(x, sequence):
    for u in sequence:
        x = unit(x, u)
    return x


def resize(x, height, width):
    """Corner-aligned bilinear interpolation, written out."""
    rows = torch.linspace(0, x.shape[2] - 1, height)
    columns = torch.linspace(0, x.shape[3] - 1, width)
    top, left = rows.floor().long(), columns.floor().long()
    bottom, right = (top + 1).clamp(max=x.shape[2] - 1), (left + 1).clamp(max=x.shape[3] - 1)
    down, across = (rows - top)[:, None], (columns - left)[None]
    upper = x[:, :, top][..., left] * (1 - across) + x[:, :, top][..., right] * across
    lower = x[:, :, bottom][..., left] * (1 - across) + x[:, :, bottom][..., right] * across
    return upper * (1 - down) + lower * down


def pool(x):
    """3x3, stride 2, no padding, windows that extend past the far edges are cut."""
    height, width = (-(-(n - 3) // 2) + 1 for n in x.shape[2:])
    rows = [
        torch.stack([x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3)) for j in range(width)], -1)
        for i in range(height)
    ]
    return torch.stack(rows, -2)


def branch(x, b: SoftMaskBranch):
    y = units(pool(x), b.down)
    if b.inner is not None:
        y = branch(y, b.inner) + unit(y, b.skip)
    return resize(units(y, b.up), *x.shape[2:])


def attention(x, m: AttentionModule):
    x = units(x, m.pre)
    trunk = units(x, m.trunk)
    head = m.mask[1]
    mask = F.conv2d(bn_relu(branch(x, m.mask[0]), head[0]), head[1].weight)
    mask = torch.sigmoid(F.conv2d(bn_relu(mask, head[2]), head[3].weight))
    return units((1 + mask) * trunk, m.post)


@pytest.mark.parametrize("size", [(16, 16), (17, 23)])
def test_module_agrees_with_the_independent_implementation(size):
    m = module(depth=3).train()
    with torch.no_grad():
        for _ in range(3):
            m(torch.randn(8, 16, *size))
    m.eval()
    x = torch.randn(2, 16, *size)
    with torch.no_grad():
        expected = attention(x, m)
        assert torch.allclose(m(x), expected, atol=1e-5 * expected.abs().max().item())


def test_projection_shortcut_reads_the_preactivated_input():
    torch.manual_seed(0)
    u = PreActUnit(8, 16, stride=2).eval()
    x = torch.randn(2, 8, 9, 9)
    assert torch.allclose(u(x), unit(x, u), atol=1e-6)
    assert torch.allclose(u(x - 100), u(torch.full_like(x, -100.0)))  # all negative: the ReLU leaves nothing


# Known mistakes


def test_no_gradient_reaches_the_trunk_through_the_mask():
    m = module().train()
    m.mask(m.pre(torch.randn(4, 16, 16, 16))).sum().backward()
    assert all(p.grad is None for p in m.trunk.parameters())
    assert all(p.grad is None for p in m.post.parameters())
    assert all(p.grad is not None for p in m.mask.parameters())


def test_resize_takes_a_size_and_no_values():
    b = SoftMaskBranch(8, 1, PREACT, r=1, skip=True, resample=True).eval()
    b.pool = nn.Identity()  # now nothing hides what the resize could read
    b.down, b.up = nn.Identity(), nn.Identity()
    x = torch.randn(1, 8, 6, 6)
    assert torch.allclose(b(x), x, atol=1e-6)  # had the reference been added, this would be 2x


def test_each_level_pools_the_previous_levels_output():
    b = SoftMaskBranch(8, 3, PREACT, r=1, skip=True, resample=True).eval()
    read = []
    level = b
    while level is not None:
        level.pool.register_forward_hook(lambda _m, inputs, out: read.append((inputs[0].shape[2], out.shape[2])))
        level = level.inner
    b(torch.randn(1, 8, 56, 56))
    assert read == [(56, 28), (28, 14), (14, 7)]


@pytest.mark.parametrize("size, pooled", [(112, 56), (56, 28), (28, 14), (14, 7), (15, 7), (3, 1), (2, 1)])
def test_pools_are_unpadded_and_in_ceil_mode(size, pooled):
    b = SoftMaskBranch(8, 1, PREACT, r=1, skip=True, resample=True)
    assert b.pool.padding == 0
    assert b.pool(torch.zeros(1, 1, size, size)).shape[2:] == (pooled, pooled)


# Fusion


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x, self.value)


@pytest.mark.parametrize(
    "learning, value, factor", [("residual", 0.0, 1.0), ("residual", 0.5, 1.5), ("naive", 0.0, 0.0)]
)
def test_fusion(learning, value, factor):
    m = module(fusion=LEARNINGS.value(learning), p=0).eval()
    m.mask = Constant(value)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(m(x), factor * m.trunk(x))


@pytest.mark.parametrize("p", [0, 1])
def test_input_fusion_adds_what_both_branches_read(p):
    """H = x + M * T, x after the p shared units."""
    m = module(fusion=LEARNINGS.value("input"), p=p).eval()
    x = torch.randn(2, 16, 8, 8)
    shared = m.pre(x)
    expected = m.post(shared + m.mask(shared) * m.trunk(shared))
    assert torch.allclose(m(x), expected, atol=1e-6 * expected.abs().max().item())
    m.mask = Constant(0.0)
    assert torch.equal(m(x), m.post(shared))  # a closed mask lets the input pass


# Activations


@pytest.mark.parametrize("activation, low, high", [(MixedMask(), 0, 1), (SpatialMask(), 0, 1), (ChannelMask(), -1, 1)])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 3)])
def test_masks_are_finite_and_in_range(activation, low, high, size):
    for x in (torch.randn(2, 8, *size), torch.zeros(2, 8, *size), 1e4 * torch.randn(2, 8, *size)):
        mask = activation(x)
        assert torch.isfinite(mask).all()
        assert mask.min() >= low
        assert mask.max() <= high


def test_mixed_mask_of_a_network_lies_strictly_between_0_and_1():
    mask = module().train().mask(torch.randn(4, 16, 16, 16))
    assert 0 < mask.min() < mask.max() < 1


def test_channel_mask_is_a_unit_vector_at_each_position():
    mask = ChannelMask()(torch.randn(2, 8, 4, 4))
    assert torch.allclose(mask.norm(dim=1), torch.ones(2, 4, 4), atol=1e-6)
    assert torch.equal(ChannelMask()(torch.zeros(1, 8, 1, 1)), torch.zeros(1, 8, 1, 1))


def test_spatial_mask_standardises_each_channel_over_positions():
    x = torch.randn(2, 8, 6, 6) * 3 + 5
    logits = torch.logit(SpatialMask()(x).double())
    assert torch.allclose(logits.mean((2, 3)), torch.zeros(2, 8).double(), atol=1e-4)
    assert torch.allclose(logits.std((2, 3), correction=0), torch.ones(2, 8).double(), atol=1e-3)
    assert torch.allclose(SpatialMask()(torch.randn(1, 8, 1, 1)), torch.full((1, 8, 1, 1), 0.5))
