"""Evaluate the shipped weights, as shipped (fp16), on the test split of their data: ``results/weights.json``.

python tools/evaluate_weights.py --cifar10 DIR --cifar100 DIR
python tools/evaluate_weights.py attention56_cifar.digits       # one of them; the other figures stay
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

from residual_attention.checkpoints import list_weights
from residual_attention.checkpoints.load import WEIGHTS
from residual_attention.classification.evaluate import evaluate_model
from residual_attention.devices import hardware, resolve_device, versions
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
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(resolve_device("auto")),
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="shipped weights; all by default")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 folder; downloaded by default")
    parser.add_argument("--cifar100", type=Path, help="CIFAR-100 folder; downloaded by default")
    given = parser.parse_args()
    record = json.loads(OUT.read_text()) if OUT.is_file() else {}
    for name in given.names or list_weights():
        record[name] = evaluated(name, {"cifar10": given.cifar10, "cifar100": given.cifar100}.get(name.split(".")[1]))
        print(f"{name}: {record[name]['top1_error_pct']:.2f} %")
    shipped = {name: record[name] for name in list_weights() if name in record}
    OUT.write_text(json.dumps(shipped, indent=1) + "\n")


if __name__ == "__main__":
    main()
