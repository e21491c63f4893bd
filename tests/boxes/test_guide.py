"""A guide finds its images, follows their augmentation, and raises the share of the evidence inside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual_attention import create_model
from residual_attention.attention.guidance import energy_inside, guided_energy
from residual_attention.attention.localisation import energy_in_box
from residual_attention.attention.readings import look, read
from residual_attention.boxes.guide import read_guide, regions_of
from residual_attention.classification.config import TrainConfig
from residual_attention.classification.guide import guided
from residual_attention.data.datasets import Dataset
from residual_attention.data.load import load_dataset
from residual_attention.data.loading import TrainingData
from residual_attention.data.strengths import Augment
from residual_attention.errors import UserError

SIDES = {"left": 0, "right": 1}


def box_of(side: int, number: int, size: int) -> list[int]:
    """Somewhere in the upper part of one half."""
    x, y = side * size // 2 + number % 4, 2 + number % 5
    return [x, y, x + size // 3, y + size // 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """White squares on black, left or right, in images of 32 px, in ``large`` of 90 x 70 px; boxes.json beside."""
    root = tmp_path_factory.mktemp("guided")
    for kind, (width, height) in {"small": (32, 32), "large": (90, 70)}.items():
        boxes = {}
        for name, side in SIDES.items():
            (root / kind / "train" / name).mkdir(parents=True)
            for number in range(12):
                x0, y0, x1, y1 = boxes[f"{name}/{number}.png"] = box_of(side, number, min(width, height))
                pixels = np.zeros((height, width, 3), dtype=np.uint8)
                pixels[y0:y1, x0:x1] = 255
                Image.fromarray(pixels).save(root / kind / "train" / name / f"{number}.png")
        (root / kind / "boxes.json").write_text(json.dumps(boxes))
    return root


def config_of(folder: Path, kind: str, **changes) -> TrainConfig:
    given = {"data": str(folder / kind), "guide": folder / kind / "boxes.json", "val_fraction": 0.0}
    return TrainConfig(**{**given, **changes})


def training_data(dataset: Dataset, config: TrainConfig, *, seed: int) -> TrainingData:
    """All images in one batch."""
    return TrainingData(
        samples=dataset.train,
        preprocess=dataset.preprocess,
        augment=config.section(Augment),
        num_classes=2,
        batch_size=24,
        seed=seed,
        device=torch.device("cpu"),
        regions=dataset.regions,
    )


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("small", {"crop_padding": 4, "flip": True, "rotation": 20.0, "shift": 0.1, "cutout": 6}),
        ("small", {"crop_padding": 0, "flip": True, "alternate_flip": True}),
        ("large", {"image_size": 72, "flip": True, "min_scale": 0.3, "color_jitter": 0.0}),
        ("large", {"image_size": 72, "resize": "letterbox", "flip": True}),
        ("large", {"image_size": 72, "resize": "squash", "shift": 0.1}),
    ],
)
def test_a_region_lies_where_augmentation_has_moved_its_object(folder, kind, changes):
    config = config_of(folder, kind, **changes)
    dataset = guided(load_dataset(config), config)

    batch = next(training_data(dataset, config, seed=3).epoch(1))
    pixels = dataset.preprocess.denormalize(batch.images).float().mean(dim=1) / 255
    if config.cutout:  # what is cut out takes the mean colour, which is gray on average
        cut = (batch.images == 0).all(dim=1)
        assert batch.regions[cut].max() == 0
        pixels[cut] = 0
    apart = ((pixels > 0.5) != (batch.regions > 0.5)).flatten(1).float().mean(dim=1)
    assert (batch.regions > 0.5).flatten(1).any(dim=1).float().mean() > 0.8
    assert apart.max() < 0.05  # interpolated edges
    plain = next(training_data(replace(dataset, regions=None), config, seed=3).epoch(1))
    assert plain.regions is None
    assert torch.equal(plain.images, batch.images)  # a guide changes no draw
    assert torch.equal(batch.labels, batch.targets)


def test_mixing_leaves_the_regions_and_parts_keep_them(folder):
    config = config_of(folder, "small", mixup=1.0, crop_padding=0, flip=False)
    dataset = guided(load_dataset(config), config)
    data = training_data(dataset, config, seed=0)
    batch = next(data.epoch(0))
    assert batch.targets.shape == (24, 2)
    assert set(batch.regions.unique().tolist()) == {0.0, 1.0}
    assert [len(part.regions) for part in batch.parts(5)] == [len(part) for part in batch.parts(5)]


def made(tmp_path: Path, kind: str, folder: Path) -> Path:
    """The large set's guide in another form."""
    boxes = json.loads((folder / "large" / "boxes.json").read_text())
    out = tmp_path / kind
    out.mkdir()
    if kind == "masks":
        for name, (x0, y0, x1, y1) in boxes.items():
            pixels = np.zeros((70, 90), dtype=np.uint8)
            pixels[y0:y1, x0:x1] = 1
            (out / name).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(out / name)
        return out
    images = [{"id": i, "file_name": name, "width": 90, "height": 70} for i, name in enumerate(boxes)]
    entries = [
        {"id": 2 * i + j, "image_id": i, "category_id": side, "bbox": [x0 if side == own else 0, y0, x1 - x0, y1 - y0]}
        for i, (name, (x0, y0, x1, y1)) in enumerate(boxes.items())
        for own in [SIDES[name.split("/")[0]]]
        for j, side in enumerate((own, 1 - own))  # and an object of the other class, which must not count
    ]
    names = [{"id": side, "name": name} for name, side in SIDES.items()]
    (folder / "large" / "train.json").unlink(missing_ok=True)
    (out / "coco.json").write_text(json.dumps({"images": images, "annotations": entries, "categories": names}))
    return out / "coco.json"


@pytest.mark.parametrize("kind", ["masks", "coco"])
def test_masks_and_coco_give_the_regions_of_the_boxes(folder, tmp_path, kind):
    config = config_of(folder, "large", image_size=72)
    dataset = load_dataset(config)
    paths, labels = dataset.train.paths, dataset.train.labels.tolist()
    expected = regions_of(read_guide(config.guide), paths, labels, dataset.classes)
    guide = read_guide(made(tmp_path, kind, folder))
    if kind == "coco":  # its images are looked for beside it; names alone are ambiguous here
        keys = dict(zip(sorted(guide.boxes), sorted(guide.boxes), strict=True))
        assert len(keys) == 24
        by_path = {"/".join(Path(key).parts[-2:]): value for key, value in guide.boxes.items()}
        guide = replace(guide, boxes=by_path)
    found = regions_of(guide, paths, labels, dataset.classes)
    assert found.known == expected.known == len(paths)
    assert torch.equal(found.squares(dataset.preprocess), expected.squares(dataset.preprocess))


@pytest.mark.parametrize(
    "boxes, message",
    [
        ({"left/0.png": [40, 0, 50, 9]}, "lies outside"),
        ({"left/99.png": [0, 0, 5, 5]}, "99.png is not an image of the data"),
        ({}, "contains no boxes"),
        ({"0.png": [0, 0, 5, 5]}, "matches 2 images"),
        ({"left/0.png": [5, 0, 5, 9]}, "x0 < x1"),
    ],
)
def test_a_guide_that_does_not_fit_is_one_line(folder, tmp_path, boxes, message):
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    config = config_of(folder, "small", guide=tmp_path / "boxes.json")
    with pytest.raises(UserError, match=message) as raised:
        guided(load_dataset(config), config)
    assert "\n" not in str(raised.value)


def test_other_guides_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(UserError, match="no guide at"):
        read_guide(tmp_path / "none.json")
    with pytest.raises(UserError, match="is not a guide: no boxes found"):
        read_guide(tmp_path)
    (tmp_path / "left").mkdir()
    Image.new("L", (31, 32)).save(tmp_path / "left" / "0.png")
    config = config_of(folder, "small", guide=tmp_path)
    with pytest.raises(UserError, match="a mask needs its image's size"):
        guided(load_dataset(config), config)
    digits = TrainConfig(data="digits", guide=folder / "small" / "boxes.json")
    with pytest.raises(UserError, match="needs image files"):
        guided(load_dataset(digits), digits)
    with pytest.raises(UserError, match="differentiates twice"):
        TrainConfig(guide=tmp_path, grad_checkpointing=True)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_model("attention56_cifar", num_classes=2, widths=(8, 8, 8), mask_depths=(1, 1, 1), t=1)


def test_the_energy_is_the_one_that_is_measured(network):
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 0])
    regions = torch.zeros(3, 32, 32)
    regions[:, 8:24, :16] = 1  # whole positions of every module
    inside = energy_inside(network, images, labels, regions)
    maps = read(look(network, images, targets=labels), "class")
    boxes = [torch.tensor([[0.0, 8.0, 16.0, 24.0]])] * 3
    scaled = [[box * each.shape[-1] / 32 for box in boxes] for each in maps.values()]
    measured = [energy_in_box(each, there) for each, there in zip(maps.values(), scaled, strict=True)]
    assert torch.allclose(inside.double(), torch.stack(measured).mean(dim=0), atol=1e-5)
    regions[1:] = 0
    total, count = guided_energy(network, images, labels, regions, dtype=torch.float32, at_most=8)
    assert count == 1
    assert torch.allclose(total, inside[0])
    assert guided_energy(network, images, labels, 0 * regions, dtype=torch.float32, at_most=8)[1] == 0


def test_a_step_along_its_gradient_raises_the_energy_and_touches_no_statistics(network):
    images, labels, regions = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]), torch.zeros(4, 32, 32)
    regions[:, :16] = 1
    network.train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    inside = energy_inside(network, images, labels, regions)
    inside.mean().backward()
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    with torch.no_grad():
        norm = torch.sqrt(sum(p.grad.square().sum() for p in network.parameters() if p.grad is not None))
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter += 1e-2 * parameter.grad / norm
    assert energy_inside(network, images, labels, regions).mean() > inside.mean()
    network.zero_grad()
