"""Detectors on BCCD: ours beside torchvision's ResNet-50 under the same budget."""

from typing import Any

from .markdown import machine, read, table

RUNS = (
    ("detect_bccd", "`attention56_cifar`, from the shipped weights"),
    ("detect_bccd_fresh", "`attention56_cifar`, from scratch"),
    ("detect_bccd_resnet50", "torchvision's ResNet-50, from scratch"),
)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _row(label: str, run: dict[str, Any] | None) -> list[str]:
    if run is None:
        return [label, "not run", "", "", "", "", ""]
    test, val = run["test"], run["val"]
    return [
        label,
        f"**{_percent(test['ap50_pct'])}**",
        _percent(test["map_pct"]),
        f"{_percent(test['voc_ap50_pct'])} / {_percent(test['voc07_ap50_pct'])}",
        _percent(val["ap50_pct"]),
        f"{run['parameters'] / 1e6:.1f} M",
        str(run["epochs"]),
    ]


def results() -> str:
    """Each run, and the command that produced them."""
    found = [(label, read(name)) for name, label in RUNS]
    header = [
        "backbone of Faster R-CNN",
        "test AP50",
        "test mAP",
        "VOC AP50, area / 11 points",
        "val AP50",
        "parameters",
        "epochs",
    ]
    lines = [table(header, [_row(label, run) for label, run in found])]
    first = next((run for _, run in found if run), None)
    if first is not None:
        train, val, test = (first[split]["images"] for split in ("train", "val", "test"))
        lines.append(
            f"BCCD: {train} training, {val} validation, {test} test images, short side {first['image_size_px']} px;\n"
            f"the same heads, augmentation and schedule; seed {first['seed']} each.\n"
            f"`{first['command']}`; {machine(first)}."
        )
    return "\n\n".join(lines)


def classes() -> str:
    """Test AP50 of each class."""
    found = [(label, read(name)) for name, label in RUNS]
    known = [(label, run) for label, run in found if run]
    if not known:
        return "Classes: not run."
    names = [row["class"] for row in known[0][1]["test"]["per_class"]]
    rows = []
    for label, run in known:
        by_name = {row["class"]: row for row in run["test"]["per_class"]}
        rows.append([label, *(f"{_percent(by_name[name]['ap50_pct'])} ({by_name[name]['boxes']})" for name in names)])
    return table(["test AP50 by area (boxes)", *names], rows)
