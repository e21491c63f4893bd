"""ROAD (Rong et al., ICML 2022): pixels are removed by noisy linear imputation, so that no mark is left of them.

Deletion and insertion leave images that no network has seen. Here, removed pixels become what their neighbours make
likely. The measure is half the difference between the probability left after the coldest pixels are removed and that
left after the hottest are: higher is better. By the package grad-cam.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .faithfulness import ranks

PERCENTILES = (25, 50, 75)  # of the pixels that stay when the hottest are removed
EVERY = 4  # images of which one is measured: each takes a sparse linear system per percentile


class _Probabilities(torch.nn.Module):
    """grad-cam calls a module."""

    def __init__(self, probabilities: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, images: Tensor) -> Tensor:
        return self.probabilities(images)


def road(probabilities: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, heat: Tensor) -> Tensor:
    """(B,) in [-0.5, 0.5]. Arguments as in `faithfulness.replacement_auc`; ties are broken by position.

    Raises ModuleNotFoundError without grad-cam.
    """
    from pytorch_grad_cam.metrics.road import ROADCombined  # pyright: ignore[reportMissingImports]
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # pyright: ignore[reportMissingImports]

    place = ranks(heat).cpu().double()
    cams = (1 - place / place.flatten(1).shape[1]).float().numpy()
    wanted = [ClassifierOutputTarget(int(target)) for target in targets]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the imputation's noise
        found = ROADCombined(list(PERCENTILES))(images, cams, wanted, _Probabilities(probabilities))  # type: ignore[arg-type]
    return torch.from_numpy(np.asarray(found, dtype=np.float64))
