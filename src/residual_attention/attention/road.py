"""ROAD (Rong et al., ICML 2022): pixels are removed by noisy linear imputation, so that no mark is left of them.

Deletion and insertion leave images that no network has seen. Here, removed pixels become what their neighbours make
likely. The measure is half the difference between the probability left after the coldest pixels are removed and that
left after the hottest are: higher is better.

The linear system is the package grad-cam's. Its own loop around it (1.5.7) fails with NumPy 2.4, which no longer takes
tensors for arrays.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from ..data.randomness import torch_generator
from .faithfulness import BATCH, ranks

KEPT_PCT = (25, 50, 75)  # of the pixels
EVERY = 4  # images of which one is measured: each takes a sparse linear system per share and direction
NOISE = 0.01  # standard deviation added to imputed pixels, as the paper does


def imputed(image: Tensor, kept: Tensor) -> Tensor:
    """(C, H, W) with the pixels outside ``kept`` (H, W) bool replaced by means of their neighbours, plus noise.

    Raises ModuleNotFoundError without grad-cam.
    """
    from pytorch_grad_cam.metrics.road import (  # pyright: ignore[reportMissingImports]
        NoisyLinearImputer,
        neighbors_weights,
    )

    values = image.cpu().float().numpy()
    matrix, right = NoisyLinearImputer.setup_sparse_system(kept.numpy().astype(np.float32), values, neighbors_weights)
    solved = torch.from_numpy(np.asarray(spsolve(csc_matrix(matrix), right))).reshape(-1, len(values)).float()
    filled = image.cpu().float().clone()
    filled[:, ~kept] = (solved + NOISE * torch.randn(solved.shape, generator=torch_generator("road"))).T
    return filled


@torch.no_grad()
def road(probabilities: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, heat: Tensor) -> Tensor:
    """(B,) in [-0.5, 0.5]. Arguments as in `faithfulness.replacement_auc`; ties are broken by position."""
    place = ranks(heat.cpu())
    pixels = place[0].numel()
    left = []
    for share in KEPT_PCT:
        removed = pixels - round(pixels * share / 100)
        for kept in (place < pixels - removed, place >= removed):  # without the coldest, without the hottest
            changed = torch.stack([imputed(image, mask) for image, mask in zip(images, kept, strict=True)])
            parts = [probabilities(part.to(images.device)) for part in changed.split(BATCH)]
            left.append(torch.cat(parts).gather(1, targets[:, None])[:, 0].double())
    return (torch.stack(left[::2]) - torch.stack(left[1::2])).mean(dim=0) / 2
