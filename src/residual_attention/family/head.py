"""The classifier: global pool, dropout, linear."""

from torch import Tensor, nn


def _pool(kind: str) -> nn.Module:
    """A global pool to (B, C): avg, or any other of timm's, which imports timm; '' keeps (B, C, h, w)."""
    if kind == "avg":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    from timm.layers import SelectAdaptivePool2d

    return SelectAdaptivePool2d(pool_type=kind, flatten=bool(kind))


class Head(nn.Module):
    """(B, C, h, w) to (B, num_classes); same computation and parameter names as timm's ``ClassifierHead``.

    ``reset`` accepts timm's pools: avg, max, avgmax, catavgmax (2 C features), their fast forms, and '' for none.
    """

    def __init__(self, in_chs: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_chs = in_chs
        self.pool_type = "avg"
        self.global_pool = _pool(self.pool_type)
        self.drop = nn.Dropout(dropout)
        self.fc = self._classifier(num_classes)

    @property
    def num_features(self) -> int:
        """Number of features before the linear layer."""
        return self.in_chs * (2 if self.pool_type.endswith("catavgmax") else 1)

    def _classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def reset(self, num_classes: int, pool_type: str | None = None) -> None:
        """Replace the linear layer (0 classes: remove it), and the pool unless ``pool_type`` is None."""
        if pool_type is not None and pool_type != self.pool_type:
            self.global_pool, self.pool_type = _pool(pool_type), pool_type
        like = next(self.parameters(), None)
        self.fc = self._classifier(num_classes)
        if like is not None:
            self.fc.to(like.device, like.dtype)
        self.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(self.global_pool(x))
        return x if pre_logits else self.fc(x)
