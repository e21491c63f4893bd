"""A trained detector on a split: what ``ran detect eval`` prints."""

import os
from pathlib import Path
from typing import Any

from ..boxes.annotations import Pictures
from ..devices import resolve_device
from ..errors import UserError
from .config import DetectConfig
from .datasets import check_same_data, load_detection, load_detection_split
from .detectors import BaseDetector
from .load import any_detector
from .loading import evaluation_images
from .measures import detection_measures, require_evaluator
from .predict import detect_split


def _same(data: str, trained: str) -> bool:
    return data == trained or (os.path.exists(data) and os.path.exists(trained) and Path(data).samefile(trained))


def _split(model: BaseDetector, data: str | None, split: str, problems: str) -> tuple[str, Pictures, list[str]]:
    """On the training data, the split as training made it, so that no training image counts as unseen."""
    trained = DetectConfig.from_dict({**model.card.config, "problems": problems})
    if data is not None and not _same(data, trained.data):
        found = load_detection_split(data, split, model.classes, trained)
    else:
        found = load_detection(trained, model.card.placed)
        check_same_data(found, trained, model.card, may_grow=model.card.placed is not None)
    samples = getattr(found, split)
    if samples is None:
        others = [name for name in ("train", "val", "test") if getattr(found, name) is not None]
        raise UserError(f"{data or trained.data} has no {split} split with boxes; --split can be {', '.join(others)}")
    return data or trained.data, samples, found.problems.lines


def evaluate_detector(
    model: str,
    data: str | None = None,
    *,
    split: str = "test",
    problems: str = "skip",
    batch_size: int = 8,
    workers: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure the detector MODEL on DATA's split in fp32; JSON values.

    Raises UserError (including ImageError) in one line: a class that the detector does not know, no such split, an
    unreadable image.
    """
    require_evaluator()
    place = resolve_device(device)
    detector = any_detector(model, place)
    name, samples, lines = _split(detector, data, split, problems)
    batches = evaluation_images(
        samples,
        image_size=detector.image_size,
        max_size=detector.max_size,
        batch_size=batch_size,
        device=place,
        workers=workers,
    )
    found = detect_split(detector, samples, batches)
    figures = detection_measures(samples, found)
    own = {"model": model, "data": name, "split": split}
    return {**own, **figures, "classes": list(detector.classes), "problems": lines}
