"""``ran models [NAME...]``: the ledger."""

import dataclasses
import json
import sys
from dataclasses import dataclass

import tyro

from ..training.config import Learning, MaskActivation, MaskStructure, StemName, Unit
from .arguments import parse

DESCRIPTION = """The network family: parameters, multiply-accumulates of one image, and trunk depth.

NAME is any of the family; all are listed without one. Overrides apply to every network listed."""


@dataclass(frozen=True)
class ModelsArguments:
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Networks to list."""
    image_size: int | None = None
    """Side of the input in pixels; each network's own by default (224 or 32)."""
    num_classes: int | None = None
    """Outputs; each network's own by default (1000 or 10)."""
    in_chans: int = 3
    """Channels of the input."""
    p: int | None = None
    """Units before and after each attention module's branches."""
    t: int | None = None
    """Units of the trunk branch."""
    r: int | None = None
    """Units between poolings of the mask branch."""
    modules: tuple[int, ...] | None = None
    """Attention modules of each stage."""
    widths: tuple[int, ...] | None = None
    """Channels of each stage."""
    mask_depths: tuple[int, ...] | None = None
    """Down-samplings in the mask branch of each stage."""
    unit: Unit | None = None
    """Residual unit, or the trunk's (vgg, dense)."""
    mask_activation: MaskActivation | None = None
    """What makes the mask of the last convolution."""
    mask_structure: MaskStructure | None = None
    """Encoder-decoder, or the same units at full size."""
    learning: Learning | None = None
    """residual: (1 + M) * T, or naive: M * T."""
    skip: bool | None = None
    """Skip paths in the mask branch."""
    stem: StemName | None = None
    """What comes before the first stage."""
    json: bool = False
    """Print one JSON array."""
    debug: bool = False
    """Show tracebacks."""


OVERRIDES = [
    "p",
    "t",
    "r",
    "modules",
    "widths",
    "mask_depths",
    "unit",
    "mask_activation",
    "mask_structure",
    "learning",
    "skip",
    "stem",
]  # as in TrainConfig


def main(argv: list[str]) -> int:
    given = parse(ModelsArguments, argv, prog="ran models", description=DESCRIPTION)
    if given.image_size is not None and given.image_size < 1:
        raise ValueError(f"image-size must be at least 1, not {given.image_size}")
    from ..models import ledger_row, list_models

    overrides = {name: value for name in OVERRIDES if (value := getattr(given, name)) is not None}
    rows = [
        ledger_row(name, given.image_size, given.num_classes, given.in_chans, **overrides)
        for name in given.names or list_models()
    ]
    if given.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    header = ("network", "parameters", "GMACs", "depth", "modules", "px", "classes")
    cells = [
        (
            row.name,
            f"{row.parameters:,}",
            f"{row.macs / 1e9:.3f}",
            str(row.trunk_depth),
            "-".join(map(str, row.modules)),
            str(row.image_size_px),
            str(row.num_classes),
        )
        for row in rows
    ]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(header_style="bold")
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right")
        for row in cells:
            table.add_row(*row)
        Console().print(table)
        return 0
    widths = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    for row in (header, *cells):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
    return 0
