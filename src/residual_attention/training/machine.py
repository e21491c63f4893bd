"""The machine settings of a run, with every ``auto`` resolved."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..devices import DTYPES, resolve_device, resolve_precision, usable_cores
from ..errors import UserError
from .config import RunConfig
from .distributed import Processes
from .graphs import GraphedForward


@dataclass(frozen=True)
class Machine:
    """Resolved choices; ``precision`` is fp32 | bf16 | fp16."""

    device: torch.device
    precision: str
    channels_last: bool
    compile: bool
    graphs: bool
    workers: int

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    @property
    def validation_dtype(self) -> torch.dtype:
        """fp32 in place of fp16, which ends at 65504."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "NCHW"
        how = ", compiled" if self.compile else ", CUDA graphs" if self.graphs else ""
        return f"{self.device}, {self.precision}, {layout}{how}"


def resolve_machine(config: RunConfig, local_rank: int = 0) -> Machine:
    """Resolve every ``auto`` in the configuration. Raises UserError for an unavailable device or precision."""
    device = resolve_device(config.device, local_rank)
    compiled = config.compile == "on"
    return Machine(
        device=device,
        precision=resolve_precision(config.precision, device),
        channels_last=config.channels_last != "off",
        compile=compiled,
        graphs=_graphs(config, device, compiled),
        workers=config.workers if config.workers is not None else min(usable_cores(), 8),
    )


def _graphs(config: RunConfig, device: torch.device, compiled: bool) -> bool:
    """Whether the training pass runs as CUDA graphs. Raises UserError if they are asked for where they cannot."""
    obstacles = {
        f"device {device.type}": device.type != "cuda",
        "--compile": compiled,
        "--grad-checkpointing": config.grad_checkpointing,
        "--accumulate": config.accumulate > 1,
        "--freeze": config.freeze != "none",
    }
    found = [name for name, is_there in obstacles.items() if is_there]
    if config.cuda_graphs == "on" and found:
        raise UserError(f"cuda_graphs cannot be combined with {found[0]}; drop one")
    return config.cuda_graphs != "off" and not found


def prepared_forward(model: nn.Module, machine: Machine, processes: Processes) -> nn.Module:
    """The model as the loop calls it: wrapped in DDP, compiled, or recorded."""
    if processes.world > 1:
        ids = [machine.device.index] if machine.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
    if machine.compile:
        return torch.compile(model)  # type: ignore[return-value]
    return GraphedForward(model, machine.dtype) if machine.graphs and processes.world == 1 else model
