"""Quality of detections: COCO's mean average precision, PASCAL VOC's average precision in both forms.

Both count a predicted box as right when its intersection over union with a true box of its class reaches a threshold.
Each true box is matched once, highest score first. Ignored boxes (VOC's difficult, COCO's iscrowd) count neither way.

COCO's figures come from faster-coco-eval, called directly rather than through torchmetrics' `MeanAveragePrecision`. The
latter takes 1.3 to 1.6 times the CPU time (72 images of 100 boxes; medians of 5, interleaved, three runs), and its
float32 recall thresholds shift the figures by up to 0.015 points from pycocotools'.
``benchmarks/average_precision.py`` measures both.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torchvision.ops import box_iou

from ..boxes.annotations import Pictures
from ..boxes.coco import as_coco
from ..errors import UserError

COCO_FIGURES = ("map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # the first six of COCO's twelve


@dataclass(frozen=True)
class Detections:
    """One image's, highest score first: ``boxes`` (N, 4) in pixels of the original, ``scores``, ``labels`` from 0."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Curve:
    """Precision against recall of one class at one IoU threshold, with the score at each point.

    ``average_precision`` is the area under the monotone envelope of the curve (VOC from 2010 on), ``eleven_point`` its
    mean at recall 0, 0.1, ..., 1 (VOC 2007); NaN for a class without true boxes.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    boxes: int

    @property
    def average_precision(self) -> float:
        if not self.boxes:
            return float("nan")
        recall = np.concatenate(([0.0], self.recall, [1.0]))
        precision = np.concatenate(([0.0], self.precision, [0.0]))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        steps = np.flatnonzero(recall[1:] != recall[:-1])
        return float(((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum())

    @property
    def eleven_point(self) -> float:
        if not self.boxes:
            return float("nan")
        levels = np.arange(11) / 10  # the 2007 code compares recall >= t
        best = [self.precision[self.recall >= t - 1e-12].max(initial=0.0) for t in levels]
        return float(np.mean(best))


def _matches(
    found: Detections, label: int, truth: tuple[Tensor, Tensor, Tensor], iou: float
) -> list[tuple[float, int]]:
    """(score, 1 right, 0 wrong, -1 ignored) of one image's boxes of a class, by VOC's rule.

    A prediction is matched to the true box that it overlaps most; it is wrong if that box is already matched.
    """
    boxes, labels, ignored = truth
    mine, theirs = found.labels == label, labels == label
    boxes, ignored = boxes[theirs], ignored[theirs]
    taken = [False] * len(boxes)
    overlaps = box_iou(found.boxes[mine], boxes)
    results = []
    for score, row in zip(found.scores[mine].tolist(), overlaps, strict=True):
        best = int(row.argmax()) if len(boxes) else -1
        if best < 0 or float(row[best]) < iou:
            results.append((score, 0))
        elif ignored[best]:
            results.append((score, -1))
        else:
            results.append((score, 0 if taken[best] else 1))
            taken[best] = True
    return results


def precision_recall(samples: Pictures, found: Sequence[Detections], label: int, iou: float = 0.5) -> Curve:
    """The curve of class ``label`` over a split; ``found`` is in the split's order."""
    results: list[tuple[float, int]] = []
    total = 0
    for i, detections in enumerate(found):
        truth = samples.truth(i)
        total += int(((truth[1] == label) & ~truth[2]).sum())
        results += _matches(detections, label, truth, iou)
    counted = sorted((pair for pair in results if pair[1] >= 0), key=lambda pair: -pair[0])
    scores = np.array([score for score, _ in counted], dtype=float)
    right = np.cumsum([value for _, value in counted], dtype=float)
    recall = right / max(total, 1)
    precision = right / np.arange(1, len(right) + 1)
    return Curve(recall, precision, scores, total)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def coco_average_precision(samples: Pictures, found: Sequence[Detections]) -> dict[str, float | None]:
    """COCO's figures from faster-coco-eval, in percent: the mean over IoU 0.50:0.95, at 0.50 and 0.75, by area.

    Areas (small up to 32² px, large above 96²) refer to the original image; None where no true box has that size.
    """
    coco, evaluator_class = _evaluator()
    truth = as_coco(samples)
    results = [
        {
            "image_id": i,
            "category_id": label + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
        }
        for i, detections in enumerate(found, start=1)
        for (x0, y0, x1, y1), score, label in zip(
            detections.boxes.double().tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        )
    ]
    if not results:
        return _nothing_found(samples)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = coco(truth)
        evaluator = evaluator_class(reference, reference.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = dict(zip(COCO_FIGURES, (float(v) for v in evaluator.stats[:6]), strict=True))
    return {name: None if value < 0 else 100.0 * value for name, value in values.items()}


def _nothing_found(samples: Pictures) -> dict[str, float | None]:
    """0 where there was something to find, None elsewhere."""
    areas = np.array([(b.x1 - b.x0) * (b.y1 - b.y0) for p in samples.pictures for b in p.boxes if not b.ignored])
    present = [
        areas.size > 0,
        areas.size > 0,
        areas.size > 0,
        bool((areas < 32**2).any()),
        bool(((areas >= 32**2) & (areas <= 96**2)).any()),
        bool((areas > 96**2).any()),
    ]
    return {name: 0.0 if there else None for name, there in zip(COCO_FIGURES, present, strict=True)}


def require_evaluator() -> None:
    """Raise UserError right away, not after an epoch, when the extra ``detect`` is not installed."""
    _evaluator()


def _evaluator() -> tuple[Any, Any]:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError:
        raise UserError("detection needs faster-coco-eval: pip install 'residual-attention[detect]'") from None
    return COCO, COCOeval_faster


def detection_measures(samples: Pictures, found: Sequence[Detections]) -> dict[str, Any]:
    """All figures of a split in percent, and for each class AP50 in both of VOC's forms, precision and recall.

    ``precision_pct`` and ``recall_pct`` are taken at the score of the highest F1. For the whole split, ``ap50_pct`` and
    ``map_pct`` are COCO's (101 points), ``voc_ap50_pct`` and ``voc07_ap50_pct`` the class means of VOC's two forms.
    """
    per_class = []
    for label, name in enumerate(samples.classes):
        curve = precision_recall(samples, found, label)
        best = _best_f1(curve)
        per_class.append(
            {
                "class": name,
                "boxes": curve.boxes,
                "ap50_pct": _percent(curve.average_precision),
                "ap50_07_pct": _percent(curve.eleven_point),
                **best,
            }
        )
    coco = coco_average_precision(samples, found)
    return {
        "images": len(samples),
        "boxes": sum(row["boxes"] for row in per_class),
        **{f"{name}_pct": value for name, value in coco.items()},
        "voc_ap50_pct": _mean([row["ap50_pct"] for row in per_class if row["ap50_pct"] is not None]),
        "voc07_ap50_pct": _mean([row["ap50_07_pct"] for row in per_class if row["ap50_07_pct"] is not None]),
        "per_class": per_class,
    }


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * value


def _best_f1(curve: Curve) -> dict[str, float | None]:
    if not len(curve.scores) or not curve.boxes:
        return {"precision_pct": None, "recall_pct": None, "score": None}
    f1 = 2 * curve.precision * curve.recall / np.maximum(curve.precision + curve.recall, 1e-12)
    best = int(f1.argmax())
    return {
        "precision_pct": 100.0 * float(curve.precision[best]),
        "recall_pct": 100.0 * float(curve.recall[best]),
        "score": float(curve.scores[best]),
    }
