"""The record of a benchmark: its figures, and what a reader needs to repeat them."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from residual_attention.atomic import write_atomically
from residual_attention.devices import provenance


def command_of(script: str, argv: list[str], without: tuple[str, ...] = ("--out", "--work")) -> str:
    """The command line as anyone types it: absolute paths are DIR, and the options ``without`` are left out."""
    kept: list[str] = []
    for option, argument in zip(["", *argv], argv, strict=False):
        if option not in without and argument not in without:
            kept.append("DIR" if Path(argument).is_absolute() else argument)
    return shlex.join(["python", f"benchmarks/{script}", *kept])


def write_record(found: dict[str, Any], out: Path | None) -> None:
    """Print the figures with command, hardware, versions and date as JSON, and write them to ``out`` if it is given."""
    record = {
        "command": shlex.join(["python", *sys.argv]),
        **found,
        **provenance(torch.device("cpu")),
    }
    text = json.dumps(record, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


def recorded_cells(out: Path | None) -> list[dict[str, Any]]:
    """The cells that the file holds; none if it is missing."""
    if out is None or not out.is_file():
        return []
    return json.loads(out.read_text())["cells"]


def add_cell(
    out: Path,
    cell: dict[str, Any],
    command: str,
    more: Callable[[dict[str, Any]], dict[str, Any]],
    device: torch.device | None = None,
) -> None:
    """Add a cell to an experiment's file, which another command may be adding to.

    ``more`` makes further entries from the whole record with this cell, such as its summary.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{out}.lock"):
        result: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {"commands": [], "cells": []}
        result["cells"].append(cell)
        result["commands"] = sorted({*result["commands"], command})
        result |= more(result)
        result |= provenance(device or torch.device("cpu"))
        write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
