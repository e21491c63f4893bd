"""Update the tables of the README and the docs from the ledger and ``results/``; ``--check`` only compares."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tables import audits, checks, detection, masks, own_photos, reproduction, runs, speed, summary, torture, trunks

ROOT = Path(__file__).resolve().parent.parent
PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"reached": summary.reached},
    "src/residual_attention/weights/README.md": {name: partial(runs.card, name) for name in runs.SHIPPED},
    "docs/audit.md": {"planted": audits.planted},
    "docs/comparison.md": {"own photos": own_photos.same_minutes},
    "docs/data.md": {"planted": checks.planted, "found": checks.found},
    "docs/detection.md": {"results": detection.results, "classes": detection.classes},
    "docs/family.md": {"ledger": runs.ledger, "weights": runs.weights},
    "docs/masks.md": {
        "measures on CIFAR-10": lambda: masks.measures("measures_cifar10"),
        "measures on cells": lambda: masks.measures("measures_cells"),
        "statistics": lambda: masks.statistics("measures_cifar10"),
        "interventions": lambda: masks.interventions("interventions_cifar10"),
        "cost": masks.cost,
        "guidance": masks.guidance,
    },
    "docs/reproduction.md": {"reproduced": reproduction.overview, "verdicts": reproduction.verdicts},
    "docs/results.md": {
        "measured": runs.measured,
        "detection": detection.results,
        "claims": reproduction.in_short,
        "speed": speed.in_short,
    },
    "SECURITY.md": {"attacks": torture.counts},
    "docs/trunks.md": {"trunks": trunks.ledger, "transfer": trunks.transfer, "localisation": trunks.localisation},
    "docs/speed.md": {
        "machine": speed.machine_line,
        "goals": speed.goal_table,
        "inference": lambda: speed.suite("inference"),
        "latency": lambda: speed.suite("latency"),
        "training": lambda: speed.suite("training"),
        "memory": speed.memory,
        "cost": speed.cost,
        "precision": speed.precision,
    },
}


def updated(page: str, text: str) -> str:
    """The page's text, with everything between its markers regenerated."""
    for name, content in PAGES[page].items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n{content()}\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a page is out of date")
    check, stale = parser.parse_args().check, 0
    for page in PAGES:
        path = ROOT / page
        text = path.read_text()
        current = updated(page, text)
        stale += current != text
        if not check:
            path.write_text(current)
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
