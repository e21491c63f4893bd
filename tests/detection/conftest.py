"""A small detection data set of drawn shapes, created once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

OBJECT = """<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>\
<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"""


def draw_shapes(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[str, int, int, int, int]]]:
    """An image of 96x72 px with two shapes on noise, and their boxes in VOC's counting."""
    image = Image.fromarray(rng.integers(0, 60, (72, 96, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    boxes = []
    for column in range(2):
        size = int(rng.integers(16, 30))
        x0 = 48 * column + int(rng.integers(2, 47 - size))
        y0 = int(rng.integers(2, 70 - size))
        name = ("disc", "square")[int(rng.integers(2))]
        shape = draw.ellipse if name == "disc" else draw.rectangle
        shape((x0, y0, x0 + size - 1, y0 + size - 1), fill=(230, 60, 40) if name == "disc" else (60, 120, 240))
        boxes.append((name, x0 + 1, y0 + 1, x0 + size, y0 + size))
    return image, boxes


@pytest.fixture(scope="session")
def made_voc(tmp_path_factory) -> Path:
    """PASCAL VOC's layout: 8 training, 4 validation, 4 test images of 96x72 px. Do not modify it; copy it."""
    root = tmp_path_factory.mktemp("detection") / "shapes"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"{i:04d}" for i in range(16)]
    for name in names:
        image, boxes = draw_shapes(rng)
        image.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        objects = "".join(OBJECT.format(name=n, x0=a, y0=b, x1=c, y1=d) for n, a, b, c, d in boxes)
        size = "<size><width>96</width><height>72</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        )
    lists = {"train": names[:8], "val": names[8:12], "trainval": names[:12], "test": names[12:]}
    for split, members in lists.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in members))
    return root
