"""Record a run's summary under ``results/``, with the command that produced it and without this machine's paths.

python tools/record_result.py runs/THE_RUN cifar10_quick --command "ran train cifar10 ..." --note "..."
"""

import argparse
import json
import re
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"


def in_lines(record: dict) -> str:
    """JSON with one field per line, and each row of numbers on one line."""
    rows = re.compile(r"\[\s+(-?\d+(?:,\s+-?\d+)*)\s+\]")
    return rows.sub(lambda row: f"[{', '.join(row[1].replace(',', ' ').split())}]", json.dumps(record, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run, or a measurement's JSON")
    parser.add_argument("name", help="results/NAME.json")
    parser.add_argument("--command", required=True)
    parser.add_argument("--note", action="append", default=[])
    given = parser.parse_args()
    source = given.run / "summary.json" if given.run.is_dir() else given.run
    summary = json.loads(source.read_text())
    summary.pop("run", None)
    record = {"command": given.command, "notes": given.note, **summary}
    out = RESULTS / f"{given.name}.json"
    out.write_text(in_lines(record) + "\n")
    print(out)


if __name__ == "__main__":
    main()
