"""The machine settings of a run, with every ``auto`` resolved."""

import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..devices import DTYPES, resolve_device, resolve_precision
from .config import RunConfig
from .distributed import Processes


@dataclass(frozen=True)
class Machine:
    """Resolved choices; ``precision`` is fp32 | bf16 | fp16."""

    device: torch.device
    precision: str
    channels_last: bool
    compile: bool
    workers: int

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "NCHW"
        compiled = ", compiled" if self.compile else ""
        return f"{self.device}, {self.precision}, {layout}{compiled}"


def resolve_machine(config: RunConfig, local_rank: int = 0) -> Machine:
    """Resolve every ``auto`` in the configuration. Raises UserError for an unavailable device or precision."""
    device = resolve_device(config.device, local_rank)
    compiled = config.compile == "on" or (
        config.compile == "auto" and device.type == "cuda" and not config.grad_checkpointing
    )
    cores = os.cpu_count() or 1
    return Machine(
        device=device,
        precision=resolve_precision(config.precision, device),
        channels_last=config.channels_last != "off",
        compile=compiled,
        workers=config.workers if config.workers is not None else min(cores, 8),
    )


def prepared_forward(model: nn.Module, machine: Machine, processes: Processes) -> nn.Module:
    """The model as the loop calls it: wrapped in DDP, compiled."""
    if processes.world > 1:
        ids = [machine.device.index] if machine.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
    return torch.compile(model) if machine.compile else model  # type: ignore[return-value]
