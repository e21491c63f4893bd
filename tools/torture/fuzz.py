"""Coverage-guided fuzzing of every parser with atheris: a result or a UserError, within 2 GB and 10 s each.

    python -m tools.torture --parts fuzz --seconds 25200

A target takes half an hour at full size, at once or by ``--add`` in several runs. What it finds new is kept in
``~/.cache/residual-attention/fuzz`` (or below ``RAN_DATA``) and is where the next run starts. An input that fails is
written beside it, and named in the report.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from residual_attention.data.cache import cache_folder

from .parts import Tally, Task

FULL_S = 1800
MEMORY_MIB, LIMIT_S, LONGEST = 2048, 10, 4096  # of one input: memory, seconds, bytes

CHILD = """
import logging, sys, warnings
import atheris
from pathlib import Path
with atheris.instrument_imports(include=["residual_attention", "PIL"]):
    from tools.torture.targets import TARGETS
from residual_attention.errors import UserError
target = TARGETS[sys.argv[1]]
corpus = Path(sys.argv[2])
for number, seed in enumerate(target.seeds):
    (corpus / f"seed-{number}").write_bytes(seed)
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

def one(content):
    try:
        target.parse(content)
    except UserError:
        pass

atheris.Setup([sys.argv[0], *sys.argv[3:], str(corpus)], one)
atheris.Fuzz()
"""


def _fuzzed(name: str, seconds: float, folder: Path, seed: int) -> Tally:
    tally = Tally()
    (corpus := cache_folder() / "fuzz" / name).mkdir(parents=True, exist_ok=True)
    found = folder / f"{name}-"
    options = {
        "max_total_time": max(1, round(seconds)),
        "rss_limit_mb": MEMORY_MIB,
        "timeout": LIMIT_S,
        "max_len": LONGEST,
        "seed": seed + 1,
        "artifact_prefix": found,
    }
    arguments = [f"-{option}={value}" for option, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, str(corpus), *arguments], capture_output=True, text=True, errors="replace"
    )
    runs = [int(number) for number in re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)]
    tally.outcomes["a result or a UserError"] = tally.tried = max(runs, default=0)
    failing = sorted(folder.glob(f"{name}-*"))
    for path in failing:
        shutil.copy(path, cache_folder() / "fuzz" / path.name)
    if done.returncode != 0 or failing:
        tail = done.stderr[-1500:]
        error = re.search(r"^(\w*(?:Error|Exception|Interrupt|Warning)\b.*)$", done.stderr, re.MULTILINE)
        inputs = ", ".join(path.name for path in failing) or "no input"
        tally.bad(f"{inputs}: {error[1] if error else tail}")
    return tally


def fuzz(task: Task) -> dict[str, Tally]:
    try:
        import atheris  # noqa: F401
    except ModuleNotFoundError:
        raise SystemExit("the part fuzz needs atheris: pip install 'residual-attention[torture]'") from None
    from .targets import TARGETS

    seconds = min(FULL_S * task.size, task.seconds / len(TARGETS))
    return {name: _fuzzed(name, seconds, task.folder, task.seed) for name in TARGETS}
