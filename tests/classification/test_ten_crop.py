"""Ten crops of an image give one prediction."""

import torch
from torch import nn

from residual_attention.classification.evaluate import evaluate_model
from residual_attention.classification.ten_crop import TenCrop


class Corner(nn.Module):
    """Class 1 for a crop whose upper left pixel is bright, else class 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images[:, 0, 0, 0]
        return torch.stack([-20 * bright, 20 * bright], dim=1)


def test_the_mean_over_corners_centre_and_mirror_images():
    images = torch.zeros(1, 1, 6, 6)
    images[0, 0, 0, 0] = 1.0  # only in the first of ten crops
    found = TenCrop(Corner(), 4)(images).exp()
    assert torch.allclose(found.sum(dim=1), torch.ones(1))
    assert torch.allclose(found[0, 1], torch.tensor((1 + 9 * 0.5) / 10), atol=1e-3)


def test_another_size_and_ten_crops_of_a_run(finished):
    plain = evaluate_model(str(finished))
    larger = evaluate_model(str(finished), image_size=20)
    crops = evaluate_model(str(finished), ten_crop=True)
    assert (plain["image_size_px"], plain["crops"]) == (16, 1)
    assert (larger["image_size_px"], crops["crops"]) == (20, 10)
    assert larger["loss"] != plain["loss"] != crops["loss"]
    assert crops["images"] == plain["images"]
