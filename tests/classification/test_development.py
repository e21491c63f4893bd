"""The masks of a few validation images, kept at fixed epochs."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from PIL import Image

from residual_attention.attention.figures import draw_sheet
from residual_attention.classification.development import Watched, development_sheet, keep_masks, kept_epochs
from residual_attention.data.datasets import Dataset
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.samples import FileSamples, TensorSamples, decode
from residual_attention.errors import UserError
from residual_attention.family import ResidualAttentionNetwork


def test_few_epochs_are_kept_the_first_and_the_last_among_them():
    assert [kept_epochs(n) for n in (1, 2, 5)] == [[1], [1, 2], [1, 2, 3, 4, 5]]
    assert kept_epochs(100) == [1, 3, 6, 16, 40, 100]


def test_of_several_labels_the_first_is_watched_and_images_without_any_are_not():
    labels = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]]).float()
    found = Watched.of(TensorSamples(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), labels))
    assert len(found) == 2
    assert found.classes.tolist() == [1, 0]


def test_they_are_drawn_over_the_photos_and_a_damaged_one_is_named(tmp_path):
    paths = tuple(tmp_path / f"{i}.png" for i in range(5))
    for path in paths:
        Image.effect_noise((60, 40), 80).convert("RGB").save(path)
    preprocess = Preprocess(16)
    val = decode(FileSamples(paths, torch.tensor([0, 0, 1, 1, 1])), preprocess, skip_bad=False)[0]
    dataset = cast(Dataset, SimpleNamespace(val=val, preprocess=preprocess, classes=["a", "b"]))
    model = ResidualAttentionNetwork(
        num_classes=2, widths=(8, 8, 8), mask_depths=(1, 1, 1), modules=(1, 1, 1), t=1, stem="cifar", final_stride=1
    )
    folder = tmp_path / "development"
    assert development_sheet(folder, dataset) is None
    for epoch in (1, 4):
        keep_masks(model, dataset, epoch, folder)
    sheet = development_sheet(folder, dataset)
    assert sheet is not None
    assert list(sheet.levels) == ["epoch 1", "epoch 4"]
    assert [row.file for row in sheet.rows] == ["0.png", "1.png", "3.png", "4.png"]
    assert {row.overlays[0].shape for row in sheet.rows} == {(160, 240, 3)}
    draw_sheet(sheet, tmp_path / "d.png")
    (folder / "epoch-00004.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"epoch-00004\.safetensors is damaged"):
        development_sheet(folder, dataset)
