"""The state of a run between two steps: everything a bit-identical resume needs."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.load import WEIGHTS_PREFIX
from .machine import Machine
from .optimization import MovingAverage, Schedule, averaged_model, build_optimizer
from .plan import Plan

EMA_PREFIX = "ema."
OPTIMIZER_PREFIX = "optimizer."
GROUP_PREFIX = "optimizer_group."  # some of timm's optimizers count steps in a tensor of the group


@dataclass
class Progress:
    """The run's position, as plain numbers. ``step_in_epoch`` steps of epoch ``epoch`` are done."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    tally: dict[str, float] = field(default_factory=dict)
    train_time_s: float = 0.0
    epoch_time_s: float = 0.0
    best_error_pct: float | None = None
    best_epoch: int = 0
    epochs_without_gain: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    images_seen: int = 0
    unreadable: list[int] = field(default_factory=list)
    finished: bool = False
    planned_steps: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def forget_sums(self) -> None:
        """Begin the epoch's sums at 0, of the same counts."""
        self.loss_sum, self.seen, self.tally = 0.0, 0, dict.fromkeys(self.tally, 0.0)


@dataclass
class TrainState:
    """What changes during training. ``scaler`` is None except in fp16, ``ema`` is None without averaging."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: MovingAverage | None
    scaler: torch.amp.GradScaler | None
    progress: Progress = field(default_factory=Progress)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and kept as best: the averaged one if there is one."""
        return self.model if self.ema is None else self.ema.module


def initial_state(model: nn.Module, plan: Plan[Any], machine: Machine) -> TrainState:
    """The network on its device with a fresh optimizer and schedule."""
    layout = torch.channels_last if machine.channels_last else torch.contiguous_format
    model.to(machine.device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, plan.config)
    schedule = Schedule(optimizer, plan.config, plan.total_steps, plan.steps_per_epoch)
    scaler = torch.amp.GradScaler("cuda") if machine.precision == "fp16" else None
    state = TrainState(model, optimizer, schedule, averaged_model(model, plan.config.ema), scaler)
    state.progress.planned_steps = plan.total_steps
    return state


def pack(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the rest as JSON."""
    tensors = {WEIGHTS_PREFIX + name: value for name, value in state.model.state_dict().items()}
    rest: dict[str, Any] = {"progress": asdict(state.progress), "schedule": state.schedule.state_dict()}
    if state.ema is not None:
        tensors |= {EMA_PREFIX + name: value for name, value in state.ema.state_dict().items()}
    if state.scaler is not None:
        rest["scaler"] = state.scaler.state_dict()
    optimizer = state.optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER_PREFIX}{index}.{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    groups = [dict(group) for group in optimizer["param_groups"]]
    for number, group in enumerate(groups):
        for key in [key for key, value in group.items() if isinstance(value, Tensor)]:
            tensors[f"{GROUP_PREFIX}{number}.{key}"] = group.pop(key)
    rest["optimizer"] = {"numbers": numbers, "param_groups": groups}
    return tensors, rest


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """``value`` on the parameter's device and in its memory layout, as the fast optimizer paths require."""
    if value.shape != parameter.shape:
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in rest["numbers"].items()}
    for name, value in tensors.items():
        if name.startswith(OPTIMIZER_PREFIX):
            index, key = name.removeprefix(OPTIMIZER_PREFIX).split(".", 1)
            state.setdefault(int(index), {})[key] = value
    for group, saved in zip(optimizer.param_groups, rest["param_groups"], strict=True):
        for key, value in saved.items():
            if key != "params":
                group[key] = tuple(value) if isinstance(value, list) else value
    for name, value in tensors.items():
        if name.startswith(GROUP_PREFIX):
            number, key = name.removeprefix(GROUP_PREFIX).split(".", 1)
            optimizer.param_groups[int(number)][key] = value.clone()
    for index, values in state.items():
        parameter = parameters[index]
        optimizer.state[parameter] = {
            key: _like(parameter, value) if isinstance(value, Tensor) else value for key, value in values.items()
        }


def unpack(state: TrainState, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Load a saved state into a freshly built one."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    state.model.load_state_dict(under(WEIGHTS_PREFIX))
    if state.ema is not None:
        state.ema.load_state_dict(under(EMA_PREFIX))
    if state.scaler is not None and "scaler" in rest:
        state.scaler.load_state_dict(rest["scaler"])
    _unpack_optimizer(state.optimizer, tensors, rest["optimizer"])
    state.schedule.load_state_dict(rest["schedule"])
    progress = dict(rest["progress"])
    if "wrong" in progress:  # as version 0.1 wrote it
        progress["tally"] = {"wrong": progress.pop("wrong")}
    state.progress = Progress(**progress)
