"""Temperature and the risk-coverage curve of a classifier, from its validation images."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor, nn

from ..checkpoints.confidence import Answering, Confidence, likeness
from ..data.datasets import Dataset
from ..data.loading import EvalBatch
from ..data.splits import HeldOutNotice
from ..family import ResidualAttentionNetwork
from ..family.modes import evaluating
from .evaluate import Evaluation
from .measures import mean_loss
from .multilabel import UNCHOSEN, best_thresholds

LARGEST = 20.0  # temperature tried, and its inverse the smallest
PRIOR_SD = 0.5  # of log temperature: decides where few images, or none wrong, say little
MAX_POINTS = 100
KEPT = 0.95  # share of the validation images that count as like the training images
LEAST_IMAGES, MOST_IMAGES = 20, 2000  # of the validation split, to measure the likeness on


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the negative log-likelihood of ``labels`` (N,) given ``logits`` (N, K).

    With several labels per image, ``labels`` is a matrix (N, K) of 0 and 1, and the likelihood that of all of them.

    A weak prior, log T ~ N(0, 0.5), keeps T finite: where every image is classified rightly, the likelihood alone would
    drive it to 0. With thousands of images it changes nothing.
    """
    from scipy.optimize import minimize_scalar

    plain = logits.double()

    def loss(log_temperature: float) -> float:
        likelihood = mean_loss(plain / math.exp(log_temperature), labels, "sum").item()
        return likelihood + 0.5 * (log_temperature / PRIOR_SD) ** 2

    bound = math.log(LARGEST)
    return math.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x)


def risk_coverage(probabilities: Tensor, labels: Tensor, most: int = MAX_POINTS) -> tuple[Answering, ...]:
    """The risk-coverage curve of (N, K) probabilities and (N,) labels, in up to ``most`` points.

    Each point answers the images whose largest probability reaches its threshold (El-Yaniv and Wiener, 2010).
    """
    confidence, predicted = probabilities.max(dim=1)
    order = confidence.argsort(descending=True, stable=True)
    confidence, wrong = confidence[order], (predicted != labels)[order].cumsum(0)
    last = torch.ones_like(confidence, dtype=torch.bool)
    last[:-1] = confidence[1:] < confidence[:-1]  # equal probabilities are answered together
    ends = last.nonzero()[:, 0]
    if len(ends) > most:
        ends = ends[torch.linspace(0, len(ends) - 1, most).round().long()]
    return tuple(Answering(float(confidence[i]), int(i) + 1, int(wrong[i])) for i in ends)


@torch.inference_mode()
def measure_likeness(network: ResidualAttentionNetwork, batches: Iterable[EvalBatch]) -> Confidence:
    """Centre and least likeness, of validation images alone; the default for fewer than `LEAST_IMAGES`.

    An image is part of the mean that it is compared with. Without it, f - m would only be longer by N / (N - 1), and
    the likeness is a matter of direction.
    """
    classifier = network.get_classifier()
    with evaluating(network):
        parts = [network.forward_head(network.forward_features(batch.images), pre_logits=True) for batch in batches]
    features = torch.cat(parts).float().cpu() if parts else torch.empty(0, 1)
    if len(features) < LEAST_IMAGES or not isinstance(classifier, nn.Linear) or not features.isfinite().all():
        return Confidence()
    centre = torch.tensor([float(f"{value:.6g}") for value in features.mean(dim=0).tolist()])
    alike = likeness(features, classifier.weight.float().cpu(), centre)
    return Confidence(centre=tuple(centre.tolist()), least_likeness=alike.quantile(1 - KEPT).item())


def records_likeness(model: nn.Module, dataset: Dataset) -> TypeGuard[ResidualAttentionNetwork]:
    """Whether a run records how alike images are to those of its training, if it has the validation images for it."""
    return isinstance(model, ResidualAttentionNetwork) and not dataset.several


def likeness_notices(model: nn.Module, dataset: Dataset) -> list[str]:
    """That validation images are too few to record the likeness, and what to do."""
    images = 0 if dataset.val is None else len(dataset.val)
    if images >= LEAST_IMAGES or not records_likeness(model, dataset):
        return []
    ours = any(isinstance(each, HeldOutNotice) and each.name == "validation" for each in dataset.notices)
    more = "add images or raise --val-fraction" if ours or images == 0 else "add validation images"
    return [
        f"predictions will not flag images that are unlike the training images: that takes {LEAST_IMAGES} validation "
        f"images, and there {'is' if images == 1 else 'are'} {images}; {more}"
    ]


def measure_confidence(validation: Evaluation | None, alike: Confidence) -> Confidence:
    """What the card of a finished run records; the default without validation images or with infinite logits.

    ``alike`` holds what `measure_likeness` found.
    """
    if validation is None or not validation.logits.isfinite().all():
        return Confidence()
    temperature = fit_temperature(validation.logits, validation.labels)
    calibrated = Confidence(temperature=temperature)
    curve = risk_coverage(calibrated.probabilities(validation.logits), validation.labels)
    return replace(alike, temperature=temperature, images=len(validation), curve=curve)


def measure_thresholds(validation: Evaluation | None, count: int) -> Confidence:
    """The same of a multi-label run with ``count`` labels: each label's threshold has the largest F1 on validation.

    Without validation images every threshold is 0.5. Nothing is left unanswered, so there is no risk-coverage curve,
    and likeness is measured on features that gather by class.
    """
    if validation is None or not validation.logits.isfinite().all():
        return Confidence(thresholds=(UNCHOSEN,) * count)
    temperature = fit_temperature(validation.logits, validation.labels)
    shares = (validation.logits / temperature).sigmoid()
    thresholds = best_thresholds(shares, validation.labels)
    return Confidence(temperature=temperature, images=len(validation), thresholds=thresholds)
