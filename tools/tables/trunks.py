"""The trunks: what masks cost, and what they bring to a trained one."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

from .markdown import read, table


def ledger() -> str:
    """What `ran models --trunks` prints, as recorded."""
    result = read("trunks")
    if result is None:
        return "not run"
    rows = [
        [
            f"`{row['name']}`",
            str(row["image_size_px"]),
            f"{row['parameters'] / 1e6:.2f} M",
            f"+{row['added_parameters_pct']:.1f} %",
            f"{row['macs'] / 1e9:.3f}",
            f"+{row['added_macs_pct']:.1f} %",
            ", ".join(map(str, row["mask_maps_px"])),
        ]
        for row in result["rows"]
    ]
    return table(["trunk", "px", "parameters", "masks", "GMACs", "masks", "maps that the masks read, px"], rows)


def _points(row: Mapping[str, Any]) -> str:
    """A difference in error, with its interval if there is one."""
    between = row["interval_95"]
    return f"{row['difference_points']:+.2f}" + (f" [{between[0]:+.2f}, {between[1]:+.2f}]" if between else "")


def transfer() -> str:
    """The differences in error, paired by seed, with their 95 % interval (Student's t)."""
    result = read("trunk_transfer")
    if result is None:
        return "not run"
    scratch: dict[tuple[str, int], list[float]] = {}
    for cell in result["cells"]:
        if cell["arm"] == "from scratch":
            scratch.setdefault((cell["network"], cell["images_per_class"]), []).append(cell["error_pct"])
    rows = []
    for row in result["summary"]:
        alone = scratch.get((row["network"], row["images_per_class"]), [])
        rows.append(
            [
                f"`{row['network']}`" + ("" if row["variant"] == "default" else f", {row['variant']}"),
                str(row["images_per_class"]),
                f"{sum(alone) / len(alone):.2f} %" if alone else "not run",
                f"{row['without_masks_error_pct']:.2f} %",
                f"{row['with_masks_error_pct']:.2f} %",
                _points(row),
                str(row["n"]),
            ]
        )
    for row in result["together"]:
        of = "all" if row["variant"] == "default" else f"all, {row['variant']}"
        rows.append([of, "", "", "", "", _points(row), str(row["n"])])
    header = ["network", "images per class", "from scratch", "without masks", "with masks", "difference, points", "n"]
    return table(header, rows)


def localisation() -> str:
    """The share of a map on the right quarter of a mosaic, mean over the networks of each row with masks."""
    result = read("trunk_transfer")
    if result is None:
        return "not run"
    methods = ("masks, last stage", "masks, combined", "Grad-CAM")
    shares: dict[tuple[str, int], list[Mapping[str, float]]] = {}
    for cell in result["cells"]:
        if cell["arm"] == "with masks" and cell["variant"] == "default":
            shares.setdefault((cell["network"], cell["images_per_class"]), []).append(cell["localisation"])
    rows = [
        [
            f"`{network}`",
            str(images),
            *(f"{mean(cell[name] for cell in cells):.3f}" for name in methods),
            str(len(cells)),
        ]
        for (network, images), cells in sorted(shares.items())
    ]
    return table(["network", "images per class", *methods, "n"], rows)
