"""The stems, for large and small images."""

from typing import Any

from torch import nn

from .units import BNReLU, conv


class Stem(nn.Sequential):
    """The layers before the first stage; ``chs`` and ``reduction`` describe its output.

    ``feature`` is the index of the layer whose output is the first feature level: the last one, unless a pool follows
    that halves the map once more.
    """

    def __init__(self, *layers: nn.Module, chs: int, reduction: int, min_size: int, feature: int | None = None) -> None:
        super().__init__(*layers)
        self.chs, self.reduction, self.min_size = chs, reduction, min_size
        self.feature = len(layers) - 1 if feature is None else feature

    @property
    def feature_level(self) -> dict[str, Any]:
        """timm's description of the first feature level."""
        if self.feature == len(self) - 1:
            return {"num_chs": self.chs, "reduction": self.reduction, "module": "stem"}
        return {"num_chs": self.chs, "reduction": self.reduction // 2, "module": f"stem.{self.feature}"}


def imagenet_stem(in_chans: int) -> Stem:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return Stem(conv(in_chans, 64, 7, 2), BNReLU(64), pool, chs=64, reduction=4, min_size=32, feature=1)


def cifar_stem(in_chans: int) -> Stem:
    return Stem(conv(in_chans, 16, 3), chs=16, reduction=1, min_size=16)


def cifar_wide_stem(in_chans: int) -> Stem:
    return Stem(conv(in_chans, 32, 5), BNReLU(32), nn.MaxPool2d(2), chs=32, reduction=2, min_size=16)


def cifar_wide_nopool_stem(in_chans: int) -> Stem:
    return Stem(conv(in_chans, 32, 3), BNReLU(32), chs=32, reduction=1, min_size=16)
