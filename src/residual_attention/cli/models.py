"""``ran models [NAME...]``: the ledger; with ``--trunks``, timm's networks that can be trunks."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import tyro

from ..errors import UserError
from ..training.options import NetworkOptions
from .arguments import check_image_size, parse

DESCRIPTION = """The network family: parameters, multiply-accumulates per image, and trunk depth.

NAME is a network of the family; without one, all are listed. Overrides apply to every network listed.

--trunks lists the timm networks that can be trunks (`ran train --trunk NAME`), their cost, and what the masks add to
it. Patterns such as 'resnet*' select names; '*' takes minutes."""


@dataclass(frozen=True)
class ModelsArguments(NetworkOptions):
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Networks to list."""
    trunks: tuple[str, ...] | None = None
    """List timm networks that can be trunks: those that match these patterns or, without any, some of each family."""
    image_size: int | None = None
    """Side of the input in pixels; each network's own by default (224 or 32)."""
    num_classes: int | None = None
    """Number of outputs; each network's own by default (1000 or 10)."""
    in_chans: int = 3
    """Input channels."""
    json: bool = False
    """Print one JSON array."""
    debug: bool = False
    """Show tracebacks."""


def main(argv: list[str]) -> int:
    given = parse(ModelsArguments, argv, prog="ran models", description=DESCRIPTION)
    check_image_size(given.image_size)
    if given.trunks is not None:
        return _trunks(given)
    from ..family import list_models
    from ..family.ledger import ledger_row

    overrides = given.network_overrides()
    rows = [
        ledger_row(name, given.image_size, given.num_classes, given.in_chans, **overrides)
        for name in given.names or list_models()
    ]
    if given.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
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
    _print(("network", "parameters", "GMACs", "depth", "modules", "px", "classes"), cells)
    return 0


def _trunks(given: ModelsArguments) -> int:
    from ..trunks.listing import WELL_KNOWN, trunk_rows

    rows = list(trunk_rows(given.trunks or WELL_KNOWN))
    if not rows:
        raise UserError(f"no convolutional network in timm matches {' '.join(given.trunks or ())}")
    if given.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    cells = [
        (
            row.name,
            f"{row.parameters:,}",
            f"+{row.added_parameters_pct:.1f} %",
            f"{row.macs / 1e9:.3f}",
            f"+{row.added_macs_pct:.1f} %",
            "-".join(map(str, row.mask_maps_px)),
            str(row.image_size_px),
            str(row.tags),
        )
        for row in rows
    ]
    header = ("trunk", "parameters", "masks", "GMACs", "masks", "mask maps", "px", "weights")
    _print(header, cells)
    return 0


def _print(header: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """A table: the first column to the left, the others to the right."""
    cells = list(cells)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(header_style="bold")
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right")
        for row in cells:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in (header, *cells)) for i in range(len(header))]
    for row in (header, *cells):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
