"""Optimizer, learning-rate schedule and averaged weights, from timm and PyTorch."""

import logging
from functools import partial
from typing import Any, Literal

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from ..errors import UserError
from ..hints import did_you_mean
from .config import RunConfig


def check_optimizer(name: str) -> None:
    """Raise UserError for an optimizer that timm does not have, with the nearest name."""
    known = [str(known) for known in list_optimizers()]
    if name.lower() not in known:
        hint = did_you_mean(name.lower(), known)
        raise UserError(f"no optimizer named {name!r}{hint}; any timm optimizer works: sgd, adam, adamw, rmsprop, ...")


FUSED = ("sgd", "nesterov", "momentum", "adam", "adamw")  # timm's names of PyTorch's own


def resolve_fused(config: RunConfig, device: torch.device) -> Literal["on", "off"]:
    """Whether one kernel updates all parameters. Raises UserError if it is asked for where there is none.

    With momentum, PyTorch's fails when some parameters take their first step later than others, as a frozen trunk's do.
    """
    possible = config.optimizer.lower() in FUSED and device.type in ("cpu", "cuda") and config.freeze == "none"
    if config.fused == "on" and not possible:
        frozen = " with --freeze" if config.freeze != "none" else ""
        raise UserError(f"fused on is not available for {config.optimizer} on {device.type}{frozen}; leave it out")
    return "on" if possible and config.fused != "off" else "off"


def build_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """The timm optimizer named in the configuration.

    Raises UserError for layer-wise rates of a network whose layers are not known.
    """
    if config.layer_decay is not None and not hasattr(model, "group_matcher"):
        raise UserError("layer_decay needs a classifier's network")
    options: dict[str, Any] = {"fused": True} if config.fused == "on" else {}
    return create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        filter_bias_and_bn=not config.decay_norm_and_bias,
        layer_decay=config.layer_decay,
        **options,
    )


class Schedule:
    """The learning rate at each step: a function of the step, except ``plateau``, which follows the loss.

    Cosine, linear and multi-step are timm's. Plateau is PyTorch's: timm's does not save the number of bad epochs, which
    resuming needs.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: RunConfig, steps: int, per_epoch: int) -> None:
        self.optimizer = optimizer
        warmup = min(round(config.warmup_epochs * per_epoch), steps // 2)
        self.peak, self.warmup = config.lr, warmup
        common: dict[str, Any] = {"t_in_epochs": False, "warmup_t": warmup, "warmup_lr_init": config.lr / 100}
        self.by_step = None
        self.plateau = None
        if config.schedule in ("plateau", "constant"):  # timm's schedules apply a group's scale themselves
            for group in optimizer.param_groups:
                group["lr"] *= group.get("lr_scale", 1.0)
        if config.schedule in ("cosine", "linear"):
            common |= {"t_initial": max(1, steps - warmup), "lr_min": config.min_lr, "warmup_prefix": True}
            logging.getLogger("timm.scheduler").setLevel(logging.ERROR)  # it warns of a run of one step
            kind = CosineLRScheduler if config.schedule == "cosine" else partial(PolyLRScheduler, power=1.0)
            self.by_step = kind(optimizer, **common)
        elif config.schedule == "multistep":
            milestones = [m + 1 for m in config.milestones]  # timm's milestone m acts at step m - 1
            self.by_step = MultiStepLRScheduler(optimizer, milestones, config.lr_decay, warmup_prefix=False, **common)
        elif config.schedule == "plateau":
            self.plateau = ReduceLROnPlateau(
                optimizer, factor=config.lr_decay, patience=config.patience, min_lr=config.min_lr
            )

    def before_step(self, step: int) -> None:
        """Set the learning rate of optimizer step ``step``, counted from 0."""
        if self.by_step is not None:
            self.by_step.step_update(step)
        elif step <= self.warmup and self.warmup:  # plateau and constant: linear from a hundredth
            for group in self.optimizer.param_groups:
                group["lr"] = group.get("lr_scale", 1.0) * self.peak * (0.01 + 0.99 * step / self.warmup)

    def after_epoch(self, val_loss: float | None) -> None:
        if self.plateau is not None and val_loss is not None:
            self.plateau.step(val_loss)

    @property
    def lr(self) -> float:
        """The full rate; with layer-wise rates, that of the last layer."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group.get("lr_scale", 1.0)

    def state_dict(self) -> dict[str, Any]:
        if self.plateau is None:
            return {}
        keys = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
        state = {key: getattr(self.plateau, key) for key in keys}
        return {**state, "best": None if state["best"] == float("inf") else state["best"]}  # JSON has no infinity

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for the state of another schedule."""
        if state.keys() != self.state_dict().keys():
            raise ValueError("it holds the state of another learning rate schedule")
        if self.plateau is not None:
            for key, value in state.items():
                setattr(self.plateau, key, float("inf") if key == "best" and value is None else value)


class MovingAverage(AveragedModel):
    """Exponential moving average of weights and BN statistics; its decay rises to ``decay`` with the number of updates.

    `AveragedModel` asks the device how many updates there were, which a GPU would stop for.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay
        self.pairs: list[tuple[list[Tensor], list[Tensor]]] = []  # averaged and current, of one kind each

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        updates = int(self.n_averaged)  # kept on the CPU
        now = min(self.decay, (1 + updates) / (10 + updates))
        if not self.pairs:
            self.pairs = _paired(self.module, model)
        for averaged, current in self.pairs:
            if updates and averaged[0].is_floating_point():
                torch._foreach_lerp_(averaged, current, 1 - now)
            else:
                torch._foreach_copy_(averaged, current)
        self.n_averaged += 1


def _paired(averaged: nn.Module, current: nn.Module) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Corresponding weights and statistics of two networks, grouped by their type."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for one, other in zip(_tensors(averaged), _tensors(current), strict=True):
        ones, others = groups.setdefault(one.dtype, ([], []))
        ones.append(one)
        others.append(other)
    return list(groups.values())


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]


def averaged_model(model: nn.Module, decay: float) -> MovingAverage | None:
    """A moving average of the weights, BN statistics included; None for decay 0."""
    return MovingAverage(model, decay) if decay else None
