"""Crops of objects from a detection set in PASCAL VOC layout, in class folders, with the boxes in ``boxes.json``.

python tools/voc_crops.py path/to/VOC cells

A classifier trained on ``cells/{train,val,test}`` recognises the object in a crop, and ``ran attend RUN cells/test
--measure --boxes cells/test/boxes.json`` measures whether its masks lie on the object. The object may be anywhere in
its crop, so that guessing the centre scores nothing. Crops that also show a rarer class are left out.
"""

import argparse
import json
import random
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

Box = tuple[float, float, float, float]
SCALES = (2.0, 3.0)  # side of a crop, as a multiple of the object's longer side
CLEARLY_SEEN = 0.3  # minimum share of an object inside a crop for it to count
TRAIN_CROPS = 900  # per class; rare objects are cropped repeatedly, at other positions


def read_objects(path: Path) -> list[tuple[str, Box]]:
    """(class, (x0, y0, x1, y1)) of one annotation file, in pixels; VOC coordinates start at 1."""
    found = []
    for entry in ElementTree.parse(path).getroot().iter("object"):
        x0, y0, x1, y1 = (float(entry.findtext(f"bndbox/{key}", "0")) for key in ("xmin", "ymin", "xmax", "ymax"))
        if x0 < x1 and y0 < y1:
            found.append((entry.findtext("name", "?"), (x0 - 1, y0 - 1, x1, y1)))
    return found


def seen(box: Box, window: Box) -> tuple[Box, float]:
    """The part of a box inside a window, in the window's pixels, and its share of the box."""
    x0, y0 = max(box[0], window[0]), max(box[1], window[1])
    x1, y1 = min(box[2], window[2]), min(box[3], window[3])
    share = max(0.0, x1 - x0) * max(0.0, y1 - y0) / ((box[2] - box[0]) * (box[3] - box[1]))
    return (x0 - window[0], y0 - window[1], x1 - window[0], y1 - window[1]), share


def window_of(box: Box, size: tuple[int, int], draw: random.Random) -> Box | None:
    """A square inside the image that contains the box at a random place; None if there is no room."""
    longer = max(box[2] - box[0], box[3] - box[1])
    side = int(min(draw.uniform(*SCALES) * longer, *size))
    if side < longer:
        return None
    low = [max(0, int(box[i + 2] - side)) for i in (0, 1)]
    high = [min(size[i] - side, int(box[i])) for i in (0, 1)]
    if low[0] > high[0] or low[1] > high[1]:
        return None
    x, y = draw.randint(low[0], high[0]), draw.randint(low[1], high[1])
    return x, y, x + side, y + side


def boxes_in(window: Box, name: str, objects: list[tuple[str, Box]], rank: dict[str, int]) -> list[Box] | None:
    """Boxes of the class in a window; None if a rarer class is visible too."""
    inside = []
    for other, box in objects:
        part, share = seen(box, window)
        if other == name and share >= CLEARLY_SEEN:
            inside.append(tuple(round(v, 1) for v in part))
        elif rank[other] < rank[name] and share > 0:
            return None
    return inside  # type: ignore[return-value]


def crops(
    voc: Path, split: str, draw: random.Random, count: int | None
) -> Iterator[tuple[str, str, Image.Image, list[Box]]]:
    """(class, file name, crop, boxes): each object once, or ``count`` crops per class."""
    names = (voc / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    objects = {name: read_objects(voc / "Annotations" / f"{name}.xml") for name in names}
    by_class: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    for name in names:
        for label, box in objects[name]:
            by_class[label].append((name, box))
    ordered = sorted(by_class, key=lambda label: len(by_class[label]))
    rank = {label: place for place, label in enumerate(ordered)}
    wanted = count or len(by_class[ordered[0]])
    for label in ordered:
        entries = by_class[label]
        draw.shuffle(entries)
        made = 0
        for attempt in range(20 * wanted):
            if made == wanted or (count is None and attempt >= len(entries)):
                break
            name, box = entries[attempt % len(entries)]
            with Image.open(voc / "JPEGImages" / f"{name}.jpg") as image:
                window = window_of(box, image.size, draw)
                inside = window and boxes_in(window, label, objects[name], rank)
                if window and inside:
                    made += 1
                    yield label, f"{name}-{made:04d}.png", image.convert("RGB").crop(window), inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path, help="folder with JPEGImages, Annotations and ImageSets")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    for split in ("train", "val", "test"):
        boxes: dict[str, list[Box]] = {}
        folder = given.out / split
        for label, name, crop, inside in crops(given.voc, split, draw, TRAIN_CROPS if split == "train" else None):
            (folder / label).mkdir(parents=True, exist_ok=True)
            crop.save(folder / label / name)
            boxes[f"{label}/{name}"] = inside
        (folder / "boxes.json").write_text(json.dumps(boxes, indent=0) + "\n")
        counts = {
            label: sum(key.startswith(label + "/") for key in boxes)
            for label in sorted({k.split("/")[0] for k in boxes})
        }
        print(split, counts)


if __name__ == "__main__":
    main()
