"""Average precision against cases worked out by hand, and against pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from residual_attention.boxes.annotations import Box, Picture, Pictures
from residual_attention.boxes.coco import as_coco
from residual_attention.detection.measures import (
    Curve,
    Detections,
    coco_average_precision,
    detection_measures,
    precision_recall,
)


def split(*pictures: list[Box], size: int = 200) -> Pictures:
    found = [Picture(Path(f"{i}.jpg"), tuple(boxes), size, size) for i, boxes in enumerate(pictures)]
    return Pictures(tuple(found), ("cat", "dog"))


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    ordered = sorted(rows, key=lambda row: -row[4])
    values = torch.tensor([row[:5] for row in ordered], dtype=torch.float32).reshape(-1, 5)
    return Detections(values[:, :4], values[:, 4], torch.tensor([row[5] for row in ordered], dtype=torch.int64))


def test_perfect_boxes_have_a_precision_of_one_in_every_form():
    truth = split([Box("cat", 10, 10, 50, 50), Box("dog", 60, 60, 120, 120)], [Box("cat", 0, 0, 30, 30)])
    found = [
        detections((10, 10, 50, 50, 0.9, 0), (60, 60, 120, 120, 0.8, 1)),
        detections((0, 0, 30, 30, 0.7, 0)),
    ]
    summary = detection_measures(truth, found)
    for name in ("map_pct", "ap50_pct", "voc_ap50_pct", "voc07_ap50_pct"):
        assert summary[name] == pytest.approx(100.0)
    assert [row["precision_pct"] for row in summary["per_class"]] == [100.0, 100.0]


def test_a_case_worked_out_by_hand():
    """Right, wrong, right, with three true boxes: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    truth = split([Box("cat", 0, 0, 40, 40), Box("cat", 100, 100, 140, 140), Box("cat", 0, 100, 40, 140)])
    found = [detections((0, 0, 40, 40, 0.9, 0), (60, 60, 80, 80, 0.8, 0), (100, 100, 140, 140, 0.7, 0))]
    curve = precision_recall(truth, found, 0)
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.average_precision == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert curve.eleven_point == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # recall 0 to 0.3, then 0.4 to 0.6


def test_a_second_box_on_the_same_object_is_wrong():
    truth = split([Box("cat", 0, 0, 40, 40)])
    found = [detections((0, 0, 40, 40, 0.9, 0), (1, 1, 40, 40, 0.8, 0))]
    assert precision_recall(truth, found, 0).precision.tolist() == [1.0, 0.5]


def test_an_overlap_just_below_the_threshold_is_wrong():
    truth = split([Box("cat", 0, 0, 100, 100)])
    found = [detections((0, 0, 100, 49, 0.9, 0))]
    assert precision_recall(truth, found, 0).average_precision == 0
    assert precision_recall(truth, found, 0, iou=0.48).average_precision == 1


def test_ignored_boxes_count_neither_way():
    truth = split([Box("cat", 0, 0, 40, 40), Box("cat", 100, 100, 140, 140, ignored=True)])
    found = [detections((100, 100, 140, 140, 0.9, 0), (0, 0, 40, 40, 0.8, 0))]
    summary = detection_measures(truth, found)
    assert summary["boxes"] == 1
    assert summary["ap50_pct"] == pytest.approx(100.0)
    assert summary["voc_ap50_pct"] == pytest.approx(100.0)


def test_a_class_without_true_boxes_is_left_out_of_the_means():
    truth = split([Box("cat", 0, 0, 40, 40)])
    found = [detections((0, 0, 40, 40, 0.9, 0), (0, 0, 40, 40, 0.9, 1))]
    summary = detection_measures(truth, found)
    assert summary["per_class"][1]["ap50_pct"] is None
    assert summary["voc_ap50_pct"] == pytest.approx(100.0)
    assert summary["map_pct"] == pytest.approx(100.0)


def test_no_detections_give_zero_instead_of_an_error():
    truth = split([Box("cat", 0, 0, 40, 40)], [])
    summary = detection_measures(truth, [detections(), detections()])
    assert summary["map_pct"] == summary["voc_ap50_pct"] == 0.0
    assert Curve(np.array([]), np.array([]), np.array([]), 0).average_precision != 0  # NaN: no box to find


def noisy(seed: int) -> tuple[Pictures, list[Detections]]:
    """Thirty pictures with true boxes, some of them crowds, and predictions that are near, duplicated or wrong."""
    rng = np.random.default_rng(seed)
    pictures, found = [], []
    for _ in range(30):
        corners = rng.uniform(0, 240, (int(rng.integers(0, 7)), 2))
        sizes = rng.uniform(5, 150, corners.shape)
        boxes = [
            Box(("cat", "dog")[int(rng.integers(2))], *corner, *(corner + size), ignored=bool(rng.random() < 0.1))
            for corner, size in zip(corners, sizes, strict=True)
        ]
        pictures.append(boxes)
        rows = []
        for box in boxes:
            for _ in range(int(rng.integers(0, 3))):
                shift = rng.normal(0, 4, 4)
                values = np.array([box.x0, box.y0, box.x1, box.y1]) + shift
                label = ("cat", "dog").index(box.name) if rng.random() < 0.9 else int(rng.integers(2))
                if values[2] > values[0] and values[3] > values[1]:
                    rows.append((*values.tolist(), float(rng.random()), label))
        found.append(detections(*rows))
    return split(*pictures, size=400), found


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_pycocotools(seed, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    truth, found = noisy(seed)
    ours = coco_average_precision(truth, found)
    reference = coco.COCO()
    reference.dataset = json.loads(json.dumps(as_coco(truth)))
    reference.createIndex()
    rows = [
        [i, x0, y0, x1 - x0, y1 - y0, score, label + 1]
        for i, d in enumerate(found, start=1)
        for (x0, y0, x1, y1), score, label in zip(
            d.boxes.double().tolist(), d.scores.tolist(), d.labels.tolist(), strict=True
        )
    ]
    evaluator = cocoeval.COCOeval(reference, reference.loadRes(np.array(rows)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    capsys.readouterr()
    for name, expected in zip(ours, evaluator.stats[:6], strict=True):
        assert ours[name] == pytest.approx(100 * expected, abs=1e-6), name
    assert 5 < ours["map"] < 95
