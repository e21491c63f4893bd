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


@dataclass(frozen=True, kw_only=True)
class Together:
    """The mean of ``n`` paired differences in points of error, and its interval, which takes them as independent."""

    variant: str
    n: int
    difference_points: float
    interval_95: tuple[float, float] | None


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = student_half_width(statistics.stdev(values), len(values))
    return mean, mean - half, mean + half


def _ends(low: float, high: float) -> tuple[float, float] | None:
    """An interval as it is recorded; None if there is none."""
    return None if math.isnan(low) else (round(low, 3), round(high, 3))


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
        interval_95=_ends(low, high),
    )


def _pairs(errors: Mapping[Cell, float]) -> dict[tuple[str, str, int], list[tuple[float, float]]]:
    """The errors with masks and without, by variant, network and number of images.

    A variant without cells of its own without masks is compared with the default's.
    """
    with_both = {cell.variant for cell in errors if cell.arm == WITHOUT_MASKS}
    found: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    for cell in sorted((cell for cell in errors if cell.arm == WITH_MASKS), key=lambda cell: cell.seed):
        beside = cell.variant if cell.variant in with_both else DEFAULT
        other = replace(cell, variant=beside, arm=WITHOUT_MASKS)
        if other in errors:
            found.setdefault((cell.variant, cell.network, cell.images_per_class), []).append(
                (errors[cell], errors[other])
            )
    return found


def differences(errors: Mapping[Cell, float]) -> list[Difference]:
    """With masks minus without, for every variant, network and number of images."""
    return [_difference(group, pairs) for group, pairs in sorted(_pairs(errors).items())]


def together(errors: Mapping[Cell, float]) -> list[Together]:
    """With masks minus without over all networks and numbers of images, for every variant."""
    by_variant: dict[str, list[float]] = {}
    for (variant, _, _), pairs in _pairs(errors).items():
        by_variant.setdefault(variant, []).extend(one - other for one, other in pairs)
    found = []
    for variant, values in sorted(by_variant.items()):
        mean, low, high = interval(values)
        ends = _ends(low, high)
        found.append(Together(variant=variant, n=len(values), difference_points=round(mean, 3), interval_95=ends))
    return found


def with_summary(setting: Setting, record: dict[str, Any]) -> dict[str, Any]:
    """The entries of the output file that follow from its cells, and the settings of this command."""
    settings = {**record.get("settings", {}), f"{setting.variant}, {', '.join(setting.networks)}": asdict(setting)}
    errors = {Cell.of(cell): cell["error_pct"] for cell in record["cells"]}
    return {
        "settings": settings,
        "summary": [asdict(row) for row in differences(errors)],
        "together": [asdict(row) for row in together(errors)],
    }
