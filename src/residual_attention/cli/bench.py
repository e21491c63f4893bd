"""``ran bench [SUITE...]``."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import UserError
from .arguments import parse

DESCRIPTION = """Measure speed and memory on this machine, compared with the alternatives: medians over rounds in which
the contenders take turns.

SUITE is any of ceiling, inference, latency, training, memory, loading, startup and cost; all of them by default, which
takes about half an hour on two cores. The baseline at 224 px is pytorchcv's resattnet56, unmodified, in eager mode
(extra bench). At 32 px, where no package offers the network, it is our own graph in eager fp32."""


@dataclass(frozen=True)
class BenchArguments:
    suites: tyro.conf.Positional[tuple[str, ...]] = ()
    """Suites to run."""
    sizes: tuple[int, ...] = (32, 224)
    """Image sides in pixels: 32 and above for the CIFAR network, 224 and above for the ImageNet one."""
    rounds: int = 7
    """Timed rounds per contender."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N."""
    model: str | None = None
    """MODEL whose prediction is timed from a cold start; the shipped weights by default."""
    out: Path | None = None
    """OUT.json: file for every measurement, with hardware, versions and date; the cost suite also draws OUT.png."""
    json: bool = False
    """Print one JSON object; progress goes to stderr."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(BenchArguments, argv, prog="ran bench", description=DESCRIPTION)
    if given.rounds < 1:
        raise UserError(f"rounds must be at least 1, not {given.rounds}")
    if not given.sizes or min(given.sizes) < 32:
        raise UserError(f"sizes must be at least 32 px, not {' '.join(map(str, given.sizes)) or 'none'}")
    if given.out is not None and given.out.suffix != ".json":
        raise UserError(f"OUT must end in .json, not {given.out.name!r}")
    if given.out is not None and not given.out.parent.is_dir():
        raise UserError(f"no folder {given.out.parent}")
    import shlex

    from ..bench.figure import draw_cost
    from ..bench.suites import Setting, run
    from ..devices import provenance, resolve_device

    def tell(line: str) -> None:
        print(line, file=sys.stderr if given.json else sys.stdout, flush=True)

    device = resolve_device(given.device)
    setting = Setting(device=device, rounds=given.rounds, sizes=given.sizes, tell=tell, model=given.model)
    rows = run(given.suites, setting)
    result = {
        "command": shlex.join(["ran", "bench", *argv]),
        "rounds": given.rounds,
        "seed": 0,
        "device": device.type,
        **provenance(device),
        "rows": rows,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
        tell(f"written {given.out}")
        if any(row["suite"] == "cost" for row in rows):
            draw_cost(rows, given.out.with_suffix(".png"))
            tell(f"written {given.out.with_suffix('.png')}")
    if given.json:
        print(json.dumps(result))
    return 0
