"""How sure the shipped weights are, from the validation images of their runs: ``weights/confidence.json``.

The runs of these weights ended before a run measured this. The file stands beside the weights, which stay as they are.
The run's validation error must come out again, or its split is not that of the data given.

python tools/calibrate_weights.py --cifar10 DIR --cifar100 DIR
"""

import json
from pathlib import Path

import torch

from residual_attention.checkpoints import list_weights, load
from residual_attention.checkpoints.load import CONFIDENCE
from residual_attention.checkpoints.own_data import split_for
from residual_attention.classification.calibration import MOST_IMAGES, measure_confidence, measure_likeness
from residual_attention.classification.evaluate import evaluate
from residual_attention.data.loading import evaluation_batches
from residual_attention.data.splits import evenly_spaced
from residual_attention.family import ResidualAttentionNetwork
from shipped import shipped_weights
from tables.runs import SHIPPED

RESULTS = Path(__file__).resolve().parent.parent / "results"
CPU = torch.device("cpu")


def measured(name: str, data_dir: Path | None) -> dict:
    """Raises SystemExit if the run had another validation error."""
    model = load(name)
    assert isinstance(model, ResidualAttentionNetwork)
    _, samples, _ = split_for(model, split="val", data_dir=data_dir)
    found = evaluate(model, evaluation_batches(samples, model.preprocess, batch_size=100, device=CPU))
    expected = json.loads((RESULTS / f"{SHIPPED[name]}.json").read_text())["val"]["error_pct"]
    if abs(found.top1_error_pct - expected) > 0.1:  # the weights were rounded to fp16
        raise SystemExit(f"{name}: {found.top1_error_pct:.2f} % on validation, {expected:.2f} % in its run")
    few = samples.subset(evenly_spaced(len(samples), MOST_IMAGES))
    alike = measure_likeness(model, evaluation_batches(few, model.preprocess, batch_size=100, device=CPU))
    return measure_confidence(found, alike).to_dict()


def main() -> None:
    record = json.loads(CONFIDENCE.read_text()) if CONFIDENCE.is_file() else {}
    for name, data_dir in shipped_weights(__doc__):
        record[name] = measured(name, data_dir)
        print(f"{name}: temperature {record[name]['temperature']:.3f}")
    CONFIDENCE.write_text(json.dumps({name: record[name] for name in list_weights() if name in record}) + "\n")


if __name__ == "__main__":
    main()
