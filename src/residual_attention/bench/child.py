"""A measurement in its own process: ``python -m residual_attention.bench.child JSON`` prints its result as JSON.

Peak memory and time to first result can only be measured in a process that did nothing before. A comparison that
follows another in the same process would also run on the heap that the other has grown.
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
    """Current memory of this process; 0 without /proc."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() / 2**20 if path.is_file() else 0.0


def _peak_mib() -> float:
    """Peak resident memory; from /proc on Linux, where getrusage includes the parent's memory before the exec."""
    path = Path("/proc/self/status")
    if path.is_file():
        return int(path.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _ask(request: dict[str, Any]) -> Any:
    """The child's result. If it fails, RuntimeError with the last line of its stderr."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(request)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare_alone(
    what: str, contenders: "list[Contender]", *, size: int, batch: int, num_classes: int, device: str, rounds: int
) -> dict[str, list[float]]:
    """Seconds per call of each contender, round by round, all in one new process. Raises RuntimeError like `alone`."""
    request = {"what": what, "contenders": [asdict(c) for c in contenders], "size": size, "batch": batch}
    return _ask(request | {"num_classes": num_classes, "device": device, "rounds": rounds})


def alone(what: str, contender: "Contender", *, size: int, batch: int, num_classes: int, device: str, **options: Any):
    """Run ``what`` (inference | training) in a new process.

    Returns ``first_result_s``, from process start to the first prediction or step, and ``peak_mib``: the peak
    memory above that of the process after importing torch (on CUDA: the peak allocated on the device).
    If the process fails, raises RuntimeError with the last line of its stderr.
    """
    request = {"what": what, "contender": asdict(contender), "size": size, "batch": batch, "num_classes": num_classes}
    request |= {"device": device, "options": options}
    started = time.time()
    found = _ask(request)
    return {"first_result_s": round(found["first_result_at"] - started, 2), "peak_mib": round(found["peak_mib"], 1)}


def _main(request: dict[str, Any]) -> dict[str, Any]:
    import logging

    import torch
    import torch._dynamo  # any optimizer imports it, some 190 MiB that no network should be charged for

    from .contenders import Contender, inference_call, training_call
    from .timing import interleaved

    logging.disable(logging.WARNING)
    before = _resident_mib()
    device = torch.device(request["device"])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(request["batch"], 3, request["size"], request["size"], generator=generator).to(device)
    make = {"inference": inference_call, "training": training_call}[request["what"]]
    if "contenders" in request:
        contenders = [Contender(**fields) for fields in request["contenders"]]
        calls = {c.label: make(c, images, request["num_classes"]) for c in contenders}
        timings = interleaved(calls, rounds=request["rounds"], device=device)
        return {label: timing.seconds for label, timing in timings.items()}
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
