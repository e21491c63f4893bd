"""The machine: devices, precision, and the hardware and versions recorded with results."""

import importlib.metadata
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def usable_cores() -> int:
    """Cores that this process may use: under taskset or in a cluster's job, fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _cpu_flags() -> frozenset[str]:
    """The processor's instruction sets as Linux lists them; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return frozenset()
    lines = [line for line in path.read_text().splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].split(":", 1)[1].split()) if lines else frozenset()


def cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AMX, AVX512-BF16, or Arm's bf16), not in emulation."""
    return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"}) and torch.backends.mkldnn.is_available()


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` prefers CUDA, then MPS. Raises UserError for an unknown or unavailable device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device named {name!r}; use auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device {name} is not supported; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name}: no CUDA GPU is available; try --device cpu")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise UserError(f"device {name}: this machine has {torch.cuda.device_count()} GPU(s), numbered from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps is not available; try --device cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    if name == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device.type == "cpu" and cpu_computes_bf16() else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise UserError("precision fp16 needs a CUDA GPU; use bf16 or fp32")
    return name


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory and GPU, recorded with every run."""
    extensions = sorted(_cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8"})
    return {
        "cpu": _cpu_name(),
        "cpu_extensions": extensions,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    found = {"python": sys.version.split()[0]}
    for package in ("residual-attention", "torch", "torchvision", "timm", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def provenance(device: torch.device) -> dict[str, Any]:
    """What is recorded with every measurement, beside its command and seed: hardware, versions and date."""
    return {"hardware": hardware(device), "versions": versions(), "date": time.strftime("%Y-%m-%d")}


def device_of(model: torch.nn.Module) -> torch.device:
    """The device of a network's weights; the CPU for a network without any, such as an exported one."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
