"""Evaluate the shipped weights, as shipped (fp16), on the test split of their data: ``results/weights.json``.

python tools/evaluate_weights.py --cifar10 DIR --cifar100 DIR
python tools/evaluate_weights.py attention56_cifar.digits       # one of them; the other figures stay
"""

import hashlib
import json
from pathlib import Path

from residual_attention.checkpoints import list_weights
from residual_attention.checkpoints.load import WEIGHTS
from residual_attention.classification.evaluate import evaluate_model
from residual_attention.devices import provenance, resolve_device
from shipped import shipped_weights
from tables.runs import SHIPPED

OUT = Path(__file__).resolve().parent.parent / "results" / "weights.json"
FIGURES = ("data", "images", "top1_error_pct", "top5_error_pct", "ece_pct", "loss")


def evaluated(name: str, data_dir: Path | None) -> dict:
    """The file's SHA-256, the run under ``results/`` that produced it, and the figures of `ran eval`."""
    data = (WEIGHTS / f"{name}.safetensors").read_bytes()
    found = evaluate_model(name, data_dir=data_dir)
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "run": SHIPPED[name],
        **{key: found[key] for key in FIGURES},
        **provenance(resolve_device("auto")),
    }


def main() -> None:
    record = json.loads(OUT.read_text()) if OUT.is_file() else {}
    for name, data_dir in shipped_weights(__doc__):
        record[name] = evaluated(name, data_dir)
        print(f"{name}: {record[name]['top1_error_pct']:.2f} %")
    shipped = {name: record[name] for name in list_weights() if name in record}
    OUT.write_text(json.dumps(shipped, indent=1) + "\n")


if __name__ == "__main__":
    main()
