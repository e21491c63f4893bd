"""``ran attend --measure | --intervene | --response``: figures about masks instead of pictures of them."""

import json
import sys
from typing import TYPE_CHECKING

from ..own_files import OwnFiles
from .attend_arguments import AttendArguments

if TYPE_CHECKING:
    from ..attention.interventions import MaskEffects
    from ..attention.measure import MapMeasures
    from ..checkpoints import Classifier

IMAGES_MEASURED = 500  # of a data set, unless --limit says otherwise
MAPS_MEASURED = 200  # by --measure, which takes a thousand passes an image


def _say(line: str) -> None:
    """Print to stderr, so that stdout holds only the result."""
    print(line, file=sys.stderr, flush=True)


def _measure(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.measure import measure_maps
    from ..attention.measure_files import write_measures
    from ..checkpoints import load
    from ..devices import resolve_device

    measures = measure_maps(
        [model, *(load(other, resolve_device(given.device)) for other in given.beside)],
        given.images[0],
        data_dir=given.data_dir,
        split=given.split,
        limit=given.limit or MAPS_MEASURED,
        boxes=given.boxes,
        seed=given.seed,
        score_cam=given.score_cam,
        say=_say,
    )
    files = write_measures(measures, given.out, model=given.model, beside=list(given.beside))
    if given.json:
        print(json.dumps({**measures.to_dict(), "model": given.model}))
    else:
        _print_measures(measures)
        print(f"written     {' '.join(str(f) for f in files)}")
    return 0


def _compare_responses(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.figures import draw_responses
    from ..attention.response import responses_on_split
    from ..checkpoints import load
    from ..devices import resolve_device

    models = {given.model: model}
    models |= {other: load(other, resolve_device(given.device)) for other in given.beside}
    responses = {}
    for name, network in models.items():
        learning = network.card.overrides.get("learning", "residual")
        values = responses_on_split(
            network,
            given.images[0],
            data_dir=given.data_dir,
            split=given.split,
            limit=given.limit or IMAGES_MEASURED,
            say=_say,
        )
        responses[f"{name} ({learning} learning)"] = values
    out = OwnFiles(given.out).take("responses.png")
    draw_responses(responses, out)
    if given.json:
        print(json.dumps({"responses": responses, "file": str(out)}))
        return 0
    for name, values in responses.items():
        print(f"{name}  " + "  ".join(f"{stage} {value:.4f}" for stage, value in values.items()))
    print(f"drawn       {out}")
    return 0


def _intervene(given: AttendArguments, model: "Classifier") -> int:
    from ..attention.interventions import measure_interventions
    from ..attention.measure_files import write_effects

    effects = measure_interventions(
        model,
        given.images[0],
        data_dir=given.data_dir,
        split=given.split,
        limit=given.limit,
        seed=given.seed,
        say=_say,
    )
    files = write_effects(effects, given.out, model=given.model)
    if given.json:
        print(json.dumps({**effects.to_dict(), "model": given.model}))
    else:
        _print_effects(effects)
        print(f"written     {' '.join(str(f) for f in files)}")
    return 0


def measured(given: AttendArguments, model: "Classifier") -> int:
    """Run the measurement that the flags ask for; returns the exit status."""
    if given.measure:
        return _measure(given, model)
    return _intervene(given, model) if given.intervene else _compare_responses(given, model)


def _print_measures(measures: "MapMeasures") -> None:
    """A table per measure, the best method first, then the statistics of the masks."""
    from ..attention.measuring import MEASURES

    networks = "" if measures.networks == 1 else f", {measures.networks} networks"
    print(f"{measures.data}: {measures.images} images{networks}, accuracy {measures.accuracy_pct:.2f} %")
    width = max(map(len, measures.methods))
    for name, measure in MEASURES.items():
        rows = [(method, found[name]) for method, found in measures.methods.items() if name in found]
        if rows:
            print(f"\n{measure.title}, mean [95 % interval]")
        for method, value in sorted(rows, key=lambda row: row[1].mean, reverse=not measure.lower):
            print(f"  {method:<{width}}  {value.mean:.3f}  [{value.low:.3f}, {value.high:.3f}]")
    print("\nmasks")
    for module, found in measures.masks.items():
        print(f"  {module}  " + "  ".join(f"{key} {value:.3f}" for key, value in found.items()))


def _print_effects(effects: "MaskEffects") -> None:
    """One line per intervention: accuracy, confidence and changed answers, with their intervals."""
    print(f"{effects.data} {effects.split}: {effects.images} images; mean [95 % interval] in %")
    print(f"{'module':<14}{'masks':<22}{'accuracy':<24}{'confidence':<24}changed answers")
    for module, masks, effect in effects.rows():
        cells = [f"{value.mean:6.2f} [{value.low:.2f}, {value.high:.2f}]" for value in vars(effect).values()]
        print(f"{module:<14}{masks:<22}" + "".join(f"{cell:<24}" for cell in cells).rstrip())
