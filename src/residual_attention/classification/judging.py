"""How a classifier's answers are judged in training: by one class per image, or by any number of labels.

Of one class, the loss is cross-entropy and the best epoch has the lowest error. Of several labels, each is a question
of its own: the loss is binary cross-entropy, and the best epoch has the highest mean average precision (mAP).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.readable import FEW_IMAGES
from ..errors import UserError
from ..training.task import Validation
from .config import TrainConfig
from .evaluate import Evaluation
from .multilabel import f1_pct, mean_ap_pct

Tally = dict[str, Tensor]


class Judging(ABC):
    """``columns`` are those of metrics.csv."""

    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def check(self, config: TrainConfig) -> None:
        """Raise UserError for a setting that such labels do not allow."""

    @abstractmethod
    def counts(self, labels: Tensor, count: int) -> Tensor:
        """The number of images of each of ``count`` classes, (K,)."""

    @abstractmethod
    def weights(self, labels: Tensor, count: int) -> Tensor:
        """The weights (K,) that balance the classes in the loss."""

    @abstractmethod
    def losses(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """What is differentiated, and the mean loss that is reported, of logits (B, K) in fp32."""

    @abstractmethod
    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        """Counts that are summed over an epoch."""

    @abstractmethod
    def figures(self, tally: Mapping[str, float], seen: float) -> dict[str, float]:
        """The training columns besides the loss, of an epoch's sums over ``seen`` images."""

    @abstractmethod
    def validation(self, result: Evaluation) -> Validation: ...
    @abstractmethod
    def text(self, row: Mapping[str, Any], split: str) -> str:
        """A row's figures of ``train`` or ``val`` besides the loss."""


class OneClass(Judging):
    """Labels (N,); targets (B,), or (B, K) distributions where images are mixed."""

    columns = ("train_loss", "train_error_pct", "val_loss", "val_error_pct")

    def check(self, config: TrainConfig) -> None:
        """Anything goes."""

    def counts(self, labels: Tensor, count: int) -> Tensor:
        return torch.bincount(labels, minlength=count)

    def weights(self, labels: Tensor, count: int) -> Tensor:
        """Inverse class frequency, 1 on average over the images."""
        return len(labels) / (count * self.counts(labels, count).float().clamp(min=1))

    def losses(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)
        return loss, loss

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        labels = targets.argmax(dim=1) if targets.ndim == 2 else targets
        return {"wrong": (logits.argmax(dim=1) != labels).sum()}

    def figures(self, tally: Mapping[str, float], seen: float) -> dict[str, float]:
        return {"train_error_pct": 100.0 * tally["wrong"] / seen}

    def validation(self, result: Evaluation) -> Validation:
        figures = {"val_loss": result.loss, "val_error_pct": result.top1_error_pct}
        return Validation(result.top1_error_pct, result.loss, figures)

    def text(self, row: Mapping[str, Any], split: str) -> str:
        return f"error {row[f'{split}_error_pct']:.2f} %"


class SeveralLabels(Judging):
    """Labels (N, K) of 0 and 1; targets (B, K), of which shares remain where images are mixed.

    F1 counts all labels of all images together, each given from a probability of 0.5 on: thresholds are chosen when the
    run ends. A mixed target counts as a label from 0.5 on.
    """

    columns = ("train_loss", "train_f1_pct", "val_loss", "val_f1_pct", "val_map_pct")

    def check(self, config: TrainConfig) -> None:
        if config.balanced_sampling:
            raise UserError(
                f"{config.data} is multi-label; --balanced-sampling needs one class per image, --class-weights does not"
            )

    def counts(self, labels: Tensor, count: int) -> Tensor:
        return labels.sum(dim=0).long()

    def weights(self, labels: Tensor, count: int) -> Tensor:
        """How many images lack a label for each that has it: the weight of the images that have it."""
        positive = self.counts(labels, count).float()
        return (len(labels) - positive).clamp(min=1) / positive.clamp(min=1)

    def losses(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """The labels' losses are summed, so that a label's gradient does not fade with their number; their mean is
        reported."""
        smooth = targets * (1 - smoothing) + smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)
        return loss * logits.shape[1], loss

    def tally(self, logits: Tensor, targets: Tensor) -> Tally:
        given, truth = logits >= 0, targets >= 0.5
        return {"right": (given & truth).sum(), "wrong": (given & ~truth).sum(), "missed": (~given & truth).sum()}

    def figures(self, tally: Mapping[str, float], seen: float) -> dict[str, float]:
        return {"train_f1_pct": f1_pct(tally["right"], tally["wrong"], tally["missed"]) or 0.0}

    def validation(self, result: Evaluation) -> Validation:
        found = mean_ap_pct(result.probabilities, result.labels)
        counted = {name: float(value) for name, value in self.tally(result.logits, result.labels).items()}
        f1 = self.figures(counted, len(result))["train_f1_pct"]
        figures = {"val_loss": result.loss, "val_f1_pct": f1, "val_map_pct": found}
        return Validation(100.0 - found, result.loss, figures)

    def text(self, row: Mapping[str, Any], split: str) -> str:
        ranked = f"  mAP {row['val_map_pct']:.2f} %" if split == "val" else ""
        return f"F1 {row[f'{split}_f1_pct']:.2f} %{ranked}"


ONE_CLASS, SEVERAL_LABELS = OneClass(), SeveralLabels()


def judging(several: bool) -> Judging:
    return SEVERAL_LABELS if several else ONE_CLASS


def label_notices(classes: Sequence[str], counts: Tensor, images: int, several: bool) -> list[str]:
    """Notices that name the classes with too few training images to learn or to judge, or that every image has."""
    few = [f"{name} ({count})" for name, count in zip(classes, counts.tolist(), strict=True) if count < FEW_IMAGES]
    notices = []
    if few:
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        notices.append(
            f"fewer than {FEW_IMAGES} training images: {shown}; expect poor results there until you add images"
        )
    if always := [name for name, count in zip(classes, counts.tolist(), strict=True) if several and count == images]:
        notices.append(f"every training image has {', '.join(always)}, so the network learns to give it to every image")
    return notices
