"""Groups of a class's images by what their strongest evidence looks like, and where it lies."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CLUSTERS, LEAST_EACH = 3, 8  # at most so many, of so many images on average
EXAMPLES = 6
PLACE = 1.0  # weight of the peak's place next to features of length 1


@dataclass(frozen=True)
class Group:
    """``members``: positions among the images given, the most typical first; ``centre``: mean place of their peaks."""

    members: list[int]
    centre: tuple[float, float]
    spread: float


def grouped(features: Tensor, peaks: Tensor, seed: int) -> list[Group]:
    """Features (n, D) and peaks (n, 2) of a class's images by k-means, the largest group first."""
    from sklearn.cluster import KMeans

    points = torch.cat([F.normalize(features.float(), dim=1), PLACE * peaks], dim=1).numpy()
    count = max(1, min(CLUSTERS, len(points) // LEAST_EACH, len(np.unique(points, axis=0))))
    fitted = KMeans(count, n_init="auto", random_state=seed).fit(points)
    assert fitted.labels_ is not None
    groups = []
    for number in range(count):
        members = np.flatnonzero(fitted.labels_ == number)
        distance = np.linalg.norm(points[members] - fitted.cluster_centers_[number], axis=1)
        places = peaks[torch.from_numpy(members)]
        spread = float(places.std(dim=0, correction=0).norm())
        x, y = places.mean(dim=0).tolist()
        groups.append(Group(members[distance.argsort(kind="stable")].tolist(), (x, y), spread))
    return sorted(groups, key=lambda group: -len(group.members))
