"""What the cells say together: the difference that masks make, paired by seed."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from residual_attention.classification.interval import student_half_width

from .cells import DEFAULT, WITH_MASKS, WITHOUT_MASKS, Cell, Setting


@dataclass(frozen=True, kw_only=True)
class Difference:
    """With masks minus without, in points of error, over ``n`` seeds; the interval is None where n < 2."""

    variant: str
    network: str
    images_per_class: int
    n: int
    with_masks_error_pct: float
    without_masks_error_pct: float
    difference_points: float
    interval_95: tuple[float, float] | None


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = student_half_width(statistics.stdev(values), len(values))
    return mean, mean - half, mean + half


def _difference(group: tuple[str, str, int], pairs: list[tuple[float, float]]) -> Difference:
    """``pairs``: the errors with masks and without."""
    variant, network, count = group
    mean, low, high = interval([one - other for one, other in pairs])
    return Difference(
        variant=variant,
        network=network,
        images_per_class=count,
        n=len(pairs),
        with_masks_error_pct=round(statistics.mean(one for one, _ in pairs), 3),
        without_masks_error_pct=round(statistics.mean(other for _, other in pairs), 3),
        difference_points=round(mean, 3),
        interval_95=None if math.isnan(low) else (round(low, 3), round(high, 3)),
    )


def differences(errors: Mapping[Cell, float]) -> list[Difference]:
    """With masks minus without, for every variant, network and number of images; a variant without cells of its own
    without masks is compared with the default's."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in sorted((cell for cell in errors if cell.arm == WITH_MASKS), key=lambda cell: cell.seed):
        groups.setdefault((cell.variant, cell.network, cell.images_per_class), []).append(cell)
    with_both = {cell.variant for cell in errors if cell.arm == WITHOUT_MASKS}
    found = []
    for group, cells in sorted(groups.items()):
        beside = group[0] if group[0] in with_both else DEFAULT
        others = {cell: replace(cell, variant=beside, arm=WITHOUT_MASKS) for cell in cells}
        pairs = [(errors[cell], errors[other]) for cell, other in others.items() if other in errors]
        if pairs:
            found.append(_difference(group, pairs))
    return found


def with_summary(setting: Setting, record: dict[str, Any]) -> dict[str, Any]:
    """The entries of the output file that follow from its cells, and the settings of this command."""
    settings = {**record.get("settings", {}), f"{setting.variant}, {', '.join(setting.networks)}": asdict(setting)}
    errors = {Cell.of(cell): cell["error_pct"] for cell in record["cells"]}
    return {"settings": settings, "summary": [asdict(row) for row in differences(errors)]}
