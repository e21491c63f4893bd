"""Shared by all tables: formatting, reading the records under ``results/``, and the name of a machine."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


def table(header: list[str], rows: list[list[str]], *, of_text: bool = False) -> str:
    """A Markdown table; columns after the first are right-aligned, for numbers, unless they are ``of_text``."""
    rule = "|".join(["---"] + ["---" if of_text else "---:"] * (len(header) - 1))
    lines = [" | ".join(header), rule, *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def machine(result: dict[str, Any]) -> str:
    hardware = result["hardware"]
    bf16 = ", ".join(e for e in hardware["cpu_extensions"] if "bf16" in e) or "no bf16"
    used = min(hardware.get("threads", hardware["cores"]), hardware["cores"])
    where = hardware["gpu"] or f"{used} core{'s' if used > 1 else ''} of {hardware['cpu']} ({bf16})"
    return f"{where}, torch {result['versions']['torch']}, {result['date']}"


def read(name: str) -> dict[str, Any] | None:
    path = ROOT / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None
