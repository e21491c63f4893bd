"""``--guide``: boxes or masks of training images, from any file or folder that holds some.

GUIDE is a JSON file of boxes by image path (`by_image`), a file or folder of boxes in VOC's, COCO's, YOLO's or CSV
format (`layouts`), or a folder of mask PNGs that are named like their images. An image of the data is found by its
path, or by as many of its last parts as the guide names: ``cat/7.png`` is ``DATA/train/cat/7.png``.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.images import ImageError, shown_size
from ..data.regions import Box, Region, Regions
from ..data.walk import is_regular, require_regular
from ..errors import UserError
from ..names import printable
from .annotations import Problems
from .by_image import read_boxes
from .layouts import find_layout

MASK = ".png"


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What is known of images, by their path as the guide has it, without its suffix if it stands for a mask.

    ``boxes``: the class of each, None if the guide names none; ``masks``: their files.
    """

    source: Path
    boxes: Mapping[str, Sequence[tuple[str | None, Box]]] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    by_name_alone: bool = False

    def digest(self) -> str:
        """Of all boxes and of the sizes of the masks."""
        text = repr((sorted(self.boxes.items()), sorted((k, v.stat().st_size) for k, v in self.masks.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_guide(path: Path) -> Guide:
    """Raises UserError for a missing, empty or invalid guide."""
    if not require_regular(path).exists():
        raise UserError(f"no guide at {path}; give a boxes.json, a folder of boxes (VOC, COCO, YOLO), or of mask PNGs")
    guide = _listed(path) if path.suffix.lower() == ".json" and _is_by_image(path) else _of_layout(path)
    if not guide.boxes and not guide.masks:
        raise UserError(f"{path} contains no boxes")
    return guide


def _is_by_image(path: Path) -> bool:
    """Whether a JSON file is not COCO's: its first bytes name none of COCO's lists."""
    return is_regular(path) and not any(f'"{name}"'.encode() in path.read_bytes() for name in ("annotations",))


def _listed(path: Path) -> Guide:
    return Guide(source=path, boxes={name: [(None, box) for box in boxes] for name, boxes in read_boxes(path).items()})


def _of_layout(path: Path) -> Guide:
    """Boxes of a known layout; without any, masks."""
    try:
        layout = find_layout(path)
    except UserError as error:
        masks = _masks(path) if path.is_dir() else {}
        if not masks:
            raise UserError(
                f"{path} is not a guide: {error}; or give a folder of mask PNGs named like the images"
            ) from None
        return Guide(source=path, masks=masks)
    problems = Problems()
    pictures = {p.path: p for reader in layout.readers.values() for p in reader(problems) if p.boxes}
    boxes = {
        str(picture.path): [(b.name, (b.x0, b.y0, b.x1, b.y1)) for b in picture.boxes if b.x0 < b.x1 and b.y0 < b.y1]
        for picture in pictures.values()
    }
    return Guide(source=path, boxes={name: found for name, found in boxes.items() if found}, by_name_alone=True)


def _masks(folder: Path) -> dict[str, Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == MASK and is_regular(path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def regions_of(guide: Guide, paths: Sequence[Path], labels: Sequence[int], classes: Sequence[str]) -> Regions:
    """The region of each training image at ``paths`` with its class in ``labels``.

    Of boxes that name classes of the data, an image takes those of its own class.

    Raises:
        UserError: no image has a region; a JSON file names an image that does not exist; a box lies outside its image;
            a mask has another size than its image.
    """
    places = _Places(paths, without_suffix=bool(guide.masks))
    known = {name for boxes in guide.boxes.values() for name, _ in boxes} & set(classes)
    regions: dict[int, Region | None] = {}
    missing = []
    for key in guide.masks or guide.boxes:
        index = places.of(key, guide)
        if index is None:
            missing.append(key)
        elif guide.masks:
            regions[index] = _mask_region(guide.masks[key], paths[index])
        elif boxes := [box for name, box in guide.boxes[key] if not known or name == classes[labels[index]]]:
            regions[index] = _box_region(guide.source, boxes, paths[index])
    if not guide.by_name_alone and not guide.masks:
        _check_missing(guide.source, missing, paths)
    if not any(regions.values()):
        first = printable(next(iter(guide.masks or guide.boxes)))
        raise UserError(f"{guide.source}: none of its images is a training image; the first is {first}")
    return Regions(tuple(regions.get(index) for index in range(len(paths))))


class _Places:
    """The index of each training image by the last parts of its path."""

    def __init__(self, paths: Sequence[Path], *, without_suffix: bool) -> None:
        self.without_suffix = without_suffix
        self.parts = [(p.with_suffix("") if without_suffix else p).resolve().parts for p in paths]
        self.by_length: dict[int, dict[tuple[str, ...], list[int]]] = {}

    def _ending(self, length: int) -> dict[tuple[str, ...], list[int]]:
        if length not in self.by_length:
            ending: dict[tuple[str, ...], list[int]] = defaultdict(list)
            for index, parts in enumerate(self.parts):
                ending[parts[-length:]].append(index)
            self.by_length[length] = ending
        return self.by_length[length]

    def of(self, key: str, guide: Guide) -> int | None:
        """Raises UserError if the key may be one of several images."""
        parts = Path(key).parts
        lengths = (len(parts), 1) if guide.by_name_alone else (len(parts),)
        for length in lengths:
            found = self._ending(length).get(parts[-length:], [])
            if len(found) > 1:
                raise UserError(f"{guide.source}: {printable(key)} matches {len(found)} images; add its folder")
            if found:
                return found[0]
        return None


def _check_missing(source: Path, missing: Iterable[str], paths: Sequence[Path]) -> None:
    """Held-out images may be named, files that do not exist may not."""
    bases = {source.parent, *(parent for path in paths[:1] for parent in list(path.resolve().parents)[:3])}
    for name in missing:
        if not any((base / name).is_file() for base in bases) and not any(
            (base / split / name).is_file() for base in bases for split in ("val", "test")
        ):
            raise UserError(f"{source}: {printable(name)} is not an image of the data; paths are like class/name.png")


def _size(path: Path) -> tuple[int, int] | None:
    """None for an unreadable image, which training reports by itself."""
    try:
        return shown_size(path)
    except ImageError:
        return None


def _box_region(source: Path, boxes: Sequence[Box], image: Path) -> Region | None:
    size = _size(image)
    if size is None:
        return None
    for x0, y0, x1, y1 in boxes:
        if x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
            raise UserError(
                f"{source}: the box {[x0, y0, x1, y1]} lies outside {printable(str(image))} ({size[0]}x{size[1]} px)"
            )
    return Region(size, tuple(boxes))


def _mask_region(mask: Path, image: Path) -> Region | None:
    size, own = _size(image), shown_size(mask)
    if size is None:
        return None
    if own != size:
        raise UserError(
            f"{mask} has {own[0]}x{own[1]} px, but its image {image} {size[0]}x{size[1]}; a mask needs its image's size"
        )
    return Region(size, mask=mask)
