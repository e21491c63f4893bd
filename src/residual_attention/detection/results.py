"""The results of a finished detection run: its figures, and the pictures in its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..attention.masks import masks_are_signed, record_masks
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..training.pictures import Attempts
from ..training.runfolder import RunFolder
from ..training.task import Outcome
from .config import DetectConfig
from .datasets import DetectionDataset
from .detectors import Detector
from .figures import draw_detection_curves, draw_precision_recall, draw_sheet
from .loading import as_float, at_network_size
from .measures import Detections, detection_measures, precision_recall

EXAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class DetectionOutcome(Outcome):
    """An `Outcome`: the detections of the best weights on the held-out splits.

    ``held_out`` maps *val* and *test* to the detections of every image, if the data has these splits.
    """

    model: Detector
    config: DetectConfig
    dataset: DetectionDataset
    held_out: dict[str, list[Detections]]
    skipped_images: int

    def compute_figures(self) -> dict[str, Any]:
        dataset, config = self.dataset, self.config
        assert dataset.train is not None
        return {
            "detector": config.detector,
            "data": dataset.name,
            "init": config.init,
            "norm": config.norm,
            "image_size_px": config.image_size,
            "batch_size": config.batch_size,
            "classes": list(dataset.classes),
            "train": {"images": len(dataset.train), "boxes": sum(dataset.train.counts().values())},
            "skipped_images": self.skipped_images,
            "problems": dict(dataset.problems.kinds),
            "notices": list(dataset.notices),
            "val": self._split_figures("val"),
            "test": self._split_figures("test"),
        }

    def _split_figures(self, name: str) -> dict[str, Any] | None:
        return detection_measures(getattr(self.dataset, name), self.held_out[name]) if name in self.held_out else None

    def final_metrics(self) -> dict[str, float]:
        return {
            f"{split}_{name}": float(part[name])
            for split in ("val", "test")
            for name in ("map_pct", "ap50_pct")
            if (part := self.figures[split])
        }

    def lines(self) -> list[str]:
        return [
            f"{name:>5}  mAP {part['map_pct']:6.2f} %   AP50 {part['ap50_pct']:6.2f} %   {part['images']} images"
            for name in ("val", "test")
            if (part := self.figures[name])
        ]

    def draw(self, folder: RunFolder, attempts: Attempts) -> dict[str, Path]:
        """Curves; precision over recall and boxes on examples, from the test split or else from validation."""
        with attempts.attempt(folder.curves.name):
            draw_detection_curves(folder.metrics, folder.curves)
        if (name := self.shown) is None:
            return {}
        found, samples = self.held_out[name], getattr(self.dataset, name)
        drawn = {tag: folder.path / f"{tag.replace(' ', '_')}.png" for tag in ("precision recall", "boxes")}
        with attempts.attempt(drawn["precision recall"].name):
            curves = {label: precision_recall(samples, found, i) for i, label in enumerate(samples.classes)}
            draw_precision_recall(curves, drawn["precision recall"])
        with attempts.attempt(drawn["boxes"].name):
            indices = evenly_spaced(len(samples), EXAMPLES).tolist()
            draw_examples(
                self.model,
                [samples.read(i) for i in indices],
                [samples.truth(i) for i in indices],
                [found[i] for i in indices],
                [0.5 if row["score"] is None else row["score"] for row in self.figures[name]["per_class"]],
                folder.path,
            )
        return {tag: path for tag, path in drawn.items() if path.is_file()}


def backbone_masks(model: Detector, tensor: Tensor) -> dict[str, Tensor]:
    """Each attention module's mask for one image (3, h, w) in [0, 1], averaged over channels: (h', w') by module name.

    The images of a batch are padded to multiples of 32 px on the right and at the bottom; the padding is cut off. Empty
    for a backbone without masks.
    """
    with torch.no_grad(), record_masks(model.pyramid.body) as recording:
        model([tensor])
    height, width = tensor.shape[-2:]
    padded = tuple(-(-side // 32) * 32 for side in (height, width))
    found = {}
    for name, mask in recording.masks.items():
        mean = mask[0].float().mean(dim=0).cpu()
        rows, columns = (
            max(1, round(side * of / whole))
            for side, of, whole in zip(mean.shape, (height, width), padded, strict=True)
        )
        found[name] = mean[:rows, :columns]
    return found


def draw_examples(model: Detector, pictures, truths, found, thresholds: list[float], folder: Path) -> None:
    """``boxes.png``, and ``attention.png`` with the backbone's masks beneath the boxes if it has any."""
    draw_sheet(pictures, truths, found, model.classes, thresholds, folder / "boxes.png")
    device = device_of(model)
    masks = []
    for picture in pictures[:4]:
        tensor = as_float(at_network_size(picture, model.image_size, model.max_size), device)
        masks.append(backbone_masks(model, tensor))
    if masks and masks[0]:
        out = folder / "attention.png"
        signed = masks_are_signed(model.pyramid.body)
        draw_sheet(pictures[:4], truths[:4], found[:4], model.classes, thresholds, out, masks, signed=signed)
