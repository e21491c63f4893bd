"""The machine's ceiling: matrix products and memory copies."""

from collections.abc import Callable

import torch

from ..devices import DTYPES
from .timing import interleaved

SIDE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}


def measure_ceiling(device: torch.device, rounds: int) -> dict[str, float]:
    """GFLOP/s of square matrix products by precision (``fp32``, ``bf16``, ``int8``: operations), and ``copy_gb_s``
    (bytes read plus written).

    On CUDA, fp32 products run in full precision (no TF32).
    """
    side, count = SIDE.get(device.type, 2048), COPY_BYTES.get(device.type, 2**28) // 4
    calls: dict[str, Callable[[], object]] = {}
    for name in ("fp32", "bf16"):
        a = torch.randn(side, side, device=device).to(DTYPES[name])
        out = torch.empty_like(a)
        calls[name] = lambda a=a, out=out: torch.mm(a, a, out=out)
    whole = torch.randint(-128, 128, (side, side), dtype=torch.int8, device=device)
    calls["int8"] = lambda: torch._int_mm(whole, whole)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    calls["copy"] = lambda: target.copy_(source)
    times = interleaved(calls, rounds=rounds, device=device)
    found = {name: 2 * side**3 / times[name].median / 1e9 for name in ("fp32", "bf16", "int8")}
    return {**{k: round(v, 1) for k, v in found.items()}, "copy_gb_s": round(8 * count / times["copy"].median / 1e9, 1)}
