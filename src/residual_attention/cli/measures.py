"""The measures of maps as plain columns, for a terminal."""

from ..attention.measure import MEASURES, MapMeasures


def print_measures(measures: MapMeasures) -> None:
    """A table a measure, the best method first, then the statistics of the masks."""
    print(f"{measures.data}: {measures.images} images, accuracy {measures.accuracy_pct:.2f} %")
    width = max(map(len, measures.methods))
    for measure, title in MEASURES.items():
        rows = [(method, found[measure]) for method, found in measures.methods.items() if measure in found]
        if rows:
            print(f"\n{title}, mean [95 % interval]")
        for method, value in sorted(rows, key=lambda row: row[1].mean, reverse=measure != "deletion_auc"):
            print(f"  {method:<{width}}  {value.mean:.3f}  [{value.low:.3f}, {value.high:.3f}]")
    print("\nmasks")
    for module, found in measures.masks.items():
        print(f"  {module}  " + "  ".join(f"{key} {value:.3f}" for key, value in found.items()))
