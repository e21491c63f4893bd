"""The grid pointing game (Böhle et al., CVPR 2021): mosaics of 2 x 2 images; does a class's map lie on its image?

No boxes are needed, and a centre prior gains nothing. One tile shows the class that is explained, the other three show
other classes. Only images that the network classifies correctly with confidence are used, so that a tile's evidence is
known to be there.
"""

import random
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

CONFIDENT = 0.9


@dataclass(frozen=True)
class Mosaics:
    """``images`` (B, C, 2S, 2S), the class explained ``targets`` (B,), and the ``boxes`` of its tile, (1, 4) each."""

    images: Tensor
    targets: Tensor
    boxes: list[Tensor]

    def __len__(self) -> int:
        return len(self.images)


def confident(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) bool: classified correctly, with a probability of at least `CONFIDENT`."""
    best, chosen = logits.softmax(dim=1).max(dim=1)
    return (chosen == labels.to(chosen.device)) & (best >= CONFIDENT)


def make_mosaics(images: Tensor, labels: Tensor, count: int, seed: int) -> Mosaics | None:
    """``count`` mosaics of ``images`` (B, C, S, S); None if they show a single class.

    The explained class stands in each quarter equally often. The others are different from each other if there are
    enough classes.
    """
    of_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels.tolist()):
        of_class[label].append(index)
    if len(of_class) < 2:
        return None
    draw, size = random.Random(seed), images.shape[-1]
    made, targets, boxes = [], [], []
    for number in range(count):
        target = draw.choice(sorted(of_class))
        others = sorted(of_class.keys() - {target})
        rest = draw.sample(others, 3) if len(others) >= 3 else draw.choices(others, k=3)
        quarter = number % 4
        tiles = [images[draw.choice(of_class[label])] for label in (*rest[:quarter], target, *rest[quarter:])]
        made.append(torch.cat([torch.cat(tiles[:2], dim=2), torch.cat(tiles[2:], dim=2)], dim=1))
        targets.append(target)
        top, left = divmod(quarter, 2)
        boxes.append(torch.tensor([[left, top, left + 1, top + 1]], dtype=torch.float32) * size)
    return Mosaics(torch.stack(made), torch.tensor(targets, device=images.device), boxes)
