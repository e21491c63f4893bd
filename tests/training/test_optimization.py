"""Schedules, optimizers, sampling and precision do what their names say."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from residual_attention import create_model
from residual_attention.classification.config import TrainConfig
from residual_attention.data.augment import Augment
from residual_attention.data.loading import TrainingData
from residual_attention.data.order import Replica, batch_indices, epoch_order
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.samples import TensorSamples
from residual_attention.errors import UserError
from residual_attention.training.optimization import Schedule, averaged_model, build_optimizer, resolve_fused


def rates(config: TrainConfig, steps: int, per_epoch: int) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=config.lr)
    schedule = Schedule(optimizer, config, steps, per_epoch)
    found = []
    for step in range(steps):
        schedule.before_step(step)
        found.append(schedule.lr)
    return found


def test_multistep_decays_after_its_milestones():
    found = rates(TrainConfig(schedule="multistep", milestones=(4, 7), lr=1.0), 10, 5)
    assert found == pytest.approx([1.0] * 4 + [0.1] * 3 + [0.01] * 3)


def test_cosine_warms_up_and_ends_at_its_least():
    found = rates(TrainConfig(lr=1.0, warmup_epochs=2.0, min_lr=0.0), 50, 5)
    assert found[0] == pytest.approx(0.01)
    assert found[:10] == sorted(found[:10])
    assert found[10] == pytest.approx(1.0)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[-1] < 0.01
    assert found[30] == pytest.approx(0.5, abs=0.01)


def test_constant_stays():
    assert rates(TrainConfig(schedule="constant", lr=0.3), 5, 2) == [0.3] * 5


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_every_schedule_warms_up(schedule):
    found = rates(TrainConfig(schedule=schedule, lr=1.0, warmup_epochs=2.0), 20, 5)
    assert found[0] == pytest.approx(0.01)
    assert found[5] == pytest.approx(0.505)
    assert found[10:] == pytest.approx([1.0] * 10)


def test_repeated_readings_of_an_epoch_differ_and_each_is_whole():
    samples = TensorSamples(torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1), torch.arange(7))
    data = TrainingData(
        samples=samples,
        preprocess=Preprocess(1, mean=(0.0,), std=(1.0,)),
        augment=Augment(),
        num_classes=7,
        batch_size=7,
        seed=0,
        device=torch.device("cpu"),
        repeats=2,
    )
    first, second = (batch.targets.tolist() for batch in data.epoch(0))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    plain = replace(data, repeats=1)
    assert [batch.targets.tolist() for epoch in (0, 1) for batch in plain.epoch(epoch)] == [first, second]


def test_plateau_lowers_after_its_patience():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    schedule = Schedule(optimizer, TrainConfig(schedule="plateau", patience=1, lr=1.0), 10, 1)
    for loss in (1.0, 0.9, 0.95, 0.95, 0.95):
        schedule.after_epoch(loss)
    assert schedule.lr == pytest.approx(0.1)


@pytest.mark.parametrize(("schedule", "state"), [("cosine", {"x": 1}), ("plateau", {}), ("plateau", {"best": 1.0})])
def test_a_schedule_refuses_the_state_of_another(schedule, state):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ValueError, match="the state of another learning rate schedule"):
        Schedule(optimizer, TrainConfig(schedule=schedule), 10, 1).load_state_dict(state)


def test_no_decay_on_norms_and_biases_when_asked():
    model = create_model("attention56_cifar")
    groups = build_optimizer(model, TrainConfig(weight_decay=0.1, decay_norm_and_bias=False)).param_groups
    by_decay = {group["weight_decay"]: sum(p.ndim > 1 for p in group["params"]) for group in groups}
    assert by_decay[0.0] == 0
    assert by_decay[0.1] > 50
    assert len(build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups) == 1


def test_averaged_weights_follow_slowly_and_count_nothing_twice():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    averaged = averaged_model(model, 0.5)
    assert averaged is not None
    values = []
    for value in (0.0, 1.0, 1.0, 1.0):
        model[0].weight.data.fill_(value)
        model[1].num_batches_tracked += 1
        averaged.update_parameters(model)
        values.append(averaged.module[0].weight.item())
    assert values[0] == 0.0
    assert 0 < values[1] < values[2] < values[3] <= 1.0
    assert averaged.module[1].num_batches_tracked == 4
    assert averaged_model(model, 0.0) is None


def test_every_epoch_has_its_own_order_of_every_sample():
    labels = torch.arange(100) % 7
    first, second = (epoch_order(labels, seed=0, epoch=epoch) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(100))
    assert torch.equal(first, epoch_order(labels, seed=0, epoch=0))


def test_balanced_sampling_draws_classes_equally():
    labels = torch.tensor([0] * 900 + [1] * 100)
    drawn = torch.cat([labels[epoch_order(labels, seed=0, epoch=epoch, balanced=True)] for epoch in range(5)])
    assert drawn.float().mean() == pytest.approx(0.5, abs=0.03)


def test_processes_share_each_batch_without_overlap():
    order = torch.arange(64)
    parts = [batch_indices(order, 16, 2, Replica(rank, 3)) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(32, 48))


def test_an_epoch_can_start_at_any_step():
    samples = TensorSamples(torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8), torch.arange(40) % 4)
    augment = Augment(flip=True, crop_padding=1, cutout=2, mixup=0.3)
    data = TrainingData(
        samples=samples,
        preprocess=Preprocess(8),
        augment=augment,
        num_classes=4,
        batch_size=8,
        seed=3,
        device=torch.device("cpu"),
    )
    whole = list(data.epoch(1))
    assert len(whole) == data.steps_per_epoch == 5
    for expected, found in zip(whole[3:], data.epoch(1, first_step=3), strict=True):
        assert torch.equal(expected.images, found.images)
        assert torch.equal(expected.targets, found.targets)
    assert next(data.epoch(0, size=16)).images.shape == (8, 3, 16, 16)


def test_class_weights_balance_the_loss():
    from residual_attention.classification.judging import ONE_CLASS, SEVERAL_LABELS

    assert ONE_CLASS.weights(torch.tensor([0] * 30 + [1] * 10), 2).tolist() == pytest.approx([40 / 60, 2.0])
    of_each = torch.tensor([[1.0, 0.0]] * 30 + [[0.0, 0.0]] * 8 + [[1.0, 1.0]] * 2)
    assert SEVERAL_LABELS.weights(of_each, 2).tolist() == pytest.approx([8 / 32, 38 / 2])


def test_among_equal_validation_errors_the_later_epoch_is_kept():
    from residual_attention.training.loop import _is_best

    assert _is_best(5.0, None)
    assert _is_best(4.9, 5.0)
    assert _is_best(5.0, 5.0)
    assert not _is_best(5.1, 5.0)


def test_linear_falls_evenly_after_its_warm_up():
    found = rates(TrainConfig(schedule="linear", lr=1.0, warmup_epochs=2.0), 50, 5)
    assert found[0] == pytest.approx(0.01)
    assert found[10] == pytest.approx(1.0)
    falls = [a - b for a, b in pairwise(found[10:])]
    assert falls == pytest.approx([1 / 40] * len(falls))


def test_a_fused_update_is_the_same_update():
    config = TrainConfig(lr=0.1, weight_decay=1e-2)
    plain, fused = (nn.Linear(3, 2) for _ in range(2))
    fused.load_state_dict(plain.state_dict())
    for model, switch in ((plain, "off"), (fused, "on")):
        optimizer = build_optimizer(model, replace(config, fused=switch))
        assert bool(optimizer.param_groups[0].get("fused")) == (switch == "on")
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    assert torch.allclose(plain.weight, fused.weight, atol=1e-6)


def test_fused_is_refused_where_there_is_no_such_kernel():
    with pytest.raises(UserError, match="fused on is not available for lamb"):
        resolve_fused(TrainConfig(optimizer="lamb", fused="on"), torch.device("cpu"))
    assert resolve_fused(TrainConfig(optimizer="lamb"), torch.device("cpu")) == "off"
    assert resolve_fused(TrainConfig(), torch.device("cpu")) == "on"


def test_a_trunk_that_thaws_is_not_updated_by_the_fused_kernel():
    """PyTorch's takes the momentum of all parameters or of none; a later PyTorch may lift this."""
    assert resolve_fused(TrainConfig(freeze="trunk"), torch.device("cpu")) == "off"
    with pytest.raises(UserError, match="with --freeze; leave it out"):
        resolve_fused(TrainConfig(freeze="trunk", fused="on"), torch.device("cpu"))
    early, late = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([early, late], lr=0.1, momentum=0.9, fused=True)
    early.grad = torch.ones(2)
    optimizer.step()
    late.grad = torch.ones(2)
    with pytest.raises(TypeError, match="NoneType"):
        optimizer.step()
