"""The record of a benchmark: its figures, and what a reader needs to repeat them."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from residual_attention.devices import hardware, versions


def write_record(found: dict[str, Any], out: Path | None) -> None:
    """Print the figures with command, hardware, versions and date as JSON, and write them to ``out`` if it is given."""
    record = {
        "command": shlex.join(["python", *sys.argv]),
        **found,
        "hardware": hardware(torch.device("cpu")),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")
