"""A list for multi-label training from boxes: which classes each image of a detection set shows.

python tools/boxes_to_labels.py path/to/VOC labels.csv
ran train labels.csv

The set may have any layout that ``ran detect`` reads, such as PASCAL VOC's. Each row has an image's path, its classes
as ``a;b`` and its split; ``ran train`` makes the splits that are missing. Objects marked as difficult do not count.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from residual_attention.boxes.annotations import Problems
from residual_attention.boxes.layouts import find_layout
from residual_attention.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", type=Path, help="folder of a detection set")
    parser.add_argument("out", type=Path, help="the list, a .csv")
    given = parser.parse_args()
    problems = Problems()
    try:
        readers = find_layout(given.boxes.resolve()).readers
    except UserError as error:
        sys.exit(str(error))
    with open(given.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "labels", "split"])
        for split, read in readers.items():
            counts: Counter[str] = Counter()
            pictures = [picture for picture in read(problems) if picture.path.is_file()]
            for picture in pictures:
                labels = sorted({box.name for box in picture.boxes if not box.ignored})
                counts.update(labels)
                writer.writerow([picture.path, ";".join(labels), "" if split == "all" else split])
            shown = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            print(f"{split}: {len(pictures)} images; {shown}")
    if problems.lines:
        print(problems.summary(), file=sys.stderr)


if __name__ == "__main__":
    main()
