"""One contender alone in a process: ``python -m residual_attention.bench.child JSON`` prints what it found as JSON.

Peak memory and time to first result can only be had from a process that did nothing else before.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contenders import Contender

STEPS = 3


def _resident_mib() -> float:
    """Memory of this process now; 0 where there is no /proc."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() / 2**20 if path.is_file() else 0.0


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def alone(what: str, contender: "Contender", *, size: int, batch: int, num_classes: int, device: str, **options: Any):
    """Run ``what`` (inference | training) in a new process.

    Returns ``first_result_s``, from starting the process to the first prediction or step, and ``peak_mib``: the most
    memory held, above what the process held once torch was imported (on CUDA: the most allocated on the device).
    Raises RuntimeError with the last line of what the process wrote when it fails.
    """
    request = {"what": what, "contender": asdict(contender), "size": size, "batch": batch, "num_classes": num_classes}
    request |= {"device": device, "options": options}
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(request)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {"first_result_s": round(found["first_result_at"] - started, 2), "peak_mib": round(found["peak_mib"], 1)}


def _main(request: dict[str, Any]) -> dict[str, float]:
    import torch

    from .contenders import Contender, inference_call, training_call

    before = _resident_mib()
    device = torch.device(request["device"])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(request["batch"], 3, request["size"], request["size"], generator=generator).to(device)
    make = {"inference": inference_call, "training": training_call}[request["what"]]
    call = make(Contender(**request["contender"]), images, request["num_classes"], **request["options"])
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    first = time.time()
    for _ in range(STEPS - 1):
        call()
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else _peak_mib() - before
    return {"first_result_at": first, "peak_mib": peak}


if __name__ == "__main__":
    print(json.dumps(_main(json.loads(sys.argv[1]))))
