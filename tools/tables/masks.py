"""The quality of the masks, and the cost of recording them."""

from .markdown import machine, read, table

MEASURES = {
    "deletion_auc": "deletion ↓",
    "insertion_auc": "insertion ↑",
    "road": "ROAD ↑",
    "grid_pointing": "grid pointing ↑",
    "class_sensitivity": "second class ↓",
    "weight_dependence": "random weights ↓",
    "pointing_game": "pointing game ↑",
    "energy_in_box": "energy in box ↑",
}


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _networks(result: dict) -> str:
    count = result.get("networks", 1)
    return "" if count == 1 else f", {count} networks"


def measures(name: str) -> str:
    """One row per method; rows that were not run are marked as such."""
    result = read(name)
    if result is None:
        return f"`{name}`: not run."
    methods = result["methods"].values()
    shown = [measure for measure in MEASURES if all(measure in found for found in methods)]
    rows = [[method, *(_interval(found[measure]) for measure in shown)] for method, found in result["methods"].items()]
    note = (
        f"{result['images']} images{_networks(result)}, {result['accuracy_pct']:.1f} % classified correctly, "
        f"seed {result['seed']}; "
        f"{machine(result)}.\n`{result['command']}`"
    )
    return table(["map", *(MEASURES[measure] for measure in shown)], rows) + "\n\n" + note


def statistics(name: str) -> str:
    result = read(name)
    if result is None:
        return f"`{name}`: not run."
    keys = list(next(iter(result["masks"].values())))
    rows = [[f"`{module}`", *(f"{found[key]:.3f}" for key in keys)] for module, found in result["masks"].items()]
    return table(["module", *(key.replace("_", " ") for key in keys)], rows)


def cost() -> str:
    result = read("benchmark_masks")
    if result is None:
        return "Cost of recording the masks: not run."
    ratio, noise = result["ratio_to_predict"]["with_masks"], result["ratio_to_predict"]["predict_again"]
    return (
        f"Recording the masks of one image at {result['image_size_px']} px takes {ratio:.3f} times as long as a "
        f"prediction (`{result['network']}`, median of {result['rounds']} interleaved pairs; a second plain prediction "
        f"takes {noise:.3f}). The readings *class* and *excited* need a backward pass: "
        f"{result['ratio_to_predict']['with_class_gradients']:.2f} times. `{result['command']}`; {machine(result)}."
    )


def _percent(value: dict[str, float]) -> str:
    return f"{value['mean']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"


def interventions(name: str) -> str:
    """One row per intervention on all modules, the unchanged network first; single modules are in the record."""
    result = read(name)
    if result is None:
        return f"`{name}`: not run."
    found = {"unchanged": result["unchanged"], **result["effects"]["all modules"]}
    rows = [
        [masks, *(_percent(effect[figure]) for figure in ("accuracy_pct", "confidence_pct", "changed_pct"))]
        for masks, effect in found.items()
    ]
    note = (
        f"All modules of `{result['network']}`, {result['images']} images, seed {result['seed']}, in %, with 95 % "
        f"bootstrap intervals over images; single modules are in `results/{name}.json`; {machine(result)}.\n"
        f"`{result['command']}`"
    )
    return table(["masks", "accuracy", "confidence", "changed answers"], rows) + "\n\n" + note


GUIDED = {
    "error_pct": ("error, %", 2),
    "swapped_error_pct": ("error, other backgrounds, %", 2),
    "class, combined: energy_in_box": ("energy in box ↑", 3),
    "class, combined: pointing_game": ("pointing game ↑", 3),
    "Grad-CAM: energy_in_box": ("Grad-CAM's energy ↑", 3),
}


def _over_seeds(value: dict[str, float] | None, digits: int) -> str:
    if value is None:
        return "-"
    interval = f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]" if "low" in value else ""
    return f"{value['mean']:.{digits}f}{interval}"


def guidance() -> str:
    """One row per data set and share of boxes, with intervals over seeds."""
    result = read("guidance")
    if result is None:
        return "What boxes bring (`python benchmarks/guidance.py`): not run."
    shown = [name for name in GUIDED if any(name in row["figures"] for row in result["summary"])]
    rows = [
        [
            row["data"],
            f"{row['boxes_pct']} %",
            *(_over_seeds(row["figures"].get(name), GUIDED[name][1]) for name in shown),
        ]
        for row in result["summary"]
    ]
    seeds = max(row["figures"]["error_pct"]["n"] for row in result["summary"])
    note = (
        f"{seeds} seeds, mean with the 95 % interval of Student's t over them, {result['image_size_px']} px; "
        f"{machine(result)}.\n`{result['command']}`"
    )
    return table(["images", "boxes", *(GUIDED[name][0] for name in shown)], rows) + "\n\n" + note
