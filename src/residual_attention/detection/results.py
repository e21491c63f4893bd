"""The end of a detector's run: best weights, each split measured once, summary, figures, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..attention.masks import record_masks
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..training.results import load_best, run_facts, say_where
from .annotations import Pictures
from .detectors import Detector
from .figures import draw_detection_curves, draw_precision_recall, draw_sheet
from .loading import as_float, at_network_size
from .measures import Detections, detection_measures, precision_recall
from .report import write_detection_report

if TYPE_CHECKING:
    from ..training.loop import Job
    from ..training.state import TrainState
    from ..training.writer import RunWriter
    from .task import DetectionTask

EXAMPLES = 6


def finish_detection(task: "DetectionTask", job: "Job", state: "TrainState", writer: "RunWriter") -> dict[str, Any]:
    """Load the best weights, measure each held-out split once in fp32, write everything. Returns the summary."""
    folder, dataset, config = writer.folder, task.dataset, task.config
    model = load_best(state, writer)
    summary = run_facts(job, state, task.plan, folder.path) | {
        "task": "detection",
        "detector": config.detector,
        "data": dataset.name,
        "init": config.init,
        "norm": config.norm,
        "image_size_px": config.image_size,
        "batch_size": config.batch_size,
        "classes": list(dataset.classes),
        "train": {"images": len(task.data.samples), "boxes": sum(task.data.samples.counts().values())},
        "skipped_images": len(job.processes.union(task.skipped)),
        "problems": dict(dataset.problems.kinds),
        "notices": list(dataset.notices),
    }
    shown: tuple[Pictures, list[Detections]] | None = None
    for name, split in (("val", dataset.val), ("test", dataset.test)):
        summary[name] = None
        if split is not None and len(split):
            shown = split, task.detections(model, split, torch.float32)
            summary[name] = detection_measures(*shown)
    if writer.processes.is_main:
        folder.write_summary(summary)
        if shown is not None:
            _draw(writer, model, summary, *shown)  # type: ignore[arg-type]
        draw_detection_curves(folder.metrics, folder.curves)
        write_detection_report(folder.path)
        if writer.board is not None:
            metrics = {
                f"final/{split}_{name}": float(summary[split][name])
                for split in ("val", "test")
                for name in ("map_pct", "ap50_pct")
                if summary[split]
            }
            writer.board.finish(writer.config.to_dict(), metrics, summary["steps"])
            writer.board.close()
        _say_end(writer, summary)
    writer.processes.barrier()
    return summary


def backbone_masks(model: Detector, tensor: Tensor) -> dict[str, Tensor]:
    """Each attention module's mask over one image (3, h, w) in [0, 1], mean over channels: (h', w') by module name.

    The images of a batch are padded to multiples of 32 px on the right and below; the padding is cut off. Empty for a
    backbone without masks.
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


def _draw(
    writer: "RunWriter", model: Detector, summary: dict[str, Any], samples: Pictures, found: list[Detections]
) -> None:
    folder = writer.folder.path
    part = summary["test"] or summary["val"]
    curves = {name: precision_recall(samples, found, i) for i, name in enumerate(samples.classes)}
    draw_precision_recall(curves, folder / "precision_recall.png")
    indices = evenly_spaced(len(samples), EXAMPLES).tolist()
    thresholds = [row["score"] if row["score"] is not None else 0.5 for row in part["per_class"]]
    pictures = [samples.read(i) for i in indices]
    draw_examples(model, pictures, [samples.truth(i) for i in indices], [found[i] for i in indices], thresholds, folder)
    if writer.board is not None:
        for tag in ("precision_recall", "boxes"):
            writer.board.picture(tag.replace("_", " "), folder / f"{tag}.png", summary["steps"])


def draw_examples(model: Detector, pictures, truths, found, thresholds: list[float], folder: Path) -> None:
    """``boxes.png`` over images, and ``attention.png`` with the backbone's masks under the boxes if it has any."""
    draw_sheet(pictures, truths, found, model.classes, thresholds, folder / "boxes.png")
    device = device_of(model)
    masks = []
    for picture in pictures[:4]:
        tensor = as_float(at_network_size(picture, model.image_size, model.max_size), device)
        masks.append(backbone_masks(model, tensor))
    if masks and masks[0]:
        draw_sheet(pictures[:4], truths[:4], found[:4], model.classes, thresholds, folder / "attention.png", masks)


def _say_end(writer: "RunWriter", summary: dict[str, Any]) -> None:
    say = writer.display.say
    say("")
    for name in ("val", "test"):
        if part := summary[name]:
            say(f"{name:>5}  mAP {part['map_pct']:6.2f} %   AP50 {part['ap50_pct']:6.2f} %   {part['images']} images")
    say_where(writer, summary, "ran detect predict")
