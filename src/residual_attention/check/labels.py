"""Suspect labels: out-of-sample probabilities by k folds, judged by cleanlab (confident learning, Northcutt et al.,
2021).

The features are those of a trained network, its levels averaged over positions. A logistic regression on them is fitted
on all folds but one and gives the probabilities of that one. Copies of an image are in its fold, so no image is judged
by a regression that has seen it. Nor must the network have seen it with its label: `caution` says where it has.
"""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import Classifier, load
from ..checkpoints.load import list_weights, read_model
from ..data.folding import spread
from ..devices import DTYPES, resolve_device, resolve_precision
from ..errors import UserError
from ..family.staged import StagedNetwork

FEATURES, FEATURES_OF_CIFAR100 = "attention56_cifar.cifar100", "attention56_cifar.cifar10"
STRENGTH = 0.01  # inverse strength of the L2 penalty, on standardised features
BATCH = 250
MISSING = "cleanlab is not installed: pip install 'residual-attention[check]'"


def unavailable() -> str:
    """Why labels cannot be checked on this machine; empty if they can."""
    return "" if importlib.util.find_spec("cleanlab") else MISSING


def default_network(data: str) -> str:
    """The shipped weights whose features judge DATA: not those that were trained on it."""
    return FEATURES_OF_CIFAR100 if data == "cifar100" else FEATURES


def trained_on(model: str) -> list[str]:
    """The data of MODEL's training, then that of the weights it started from."""
    found: list[str] = []
    name: str | None = model
    while name is not None and name not in found[1:] and len(found) < 10:
        config = read_model(name)[1].config
        found.append(str(config.get("data")))
        start = config.get("init")
        name = start if start in list_weights() else None
    return found


def caution(data: str, model: str) -> str:
    """In what way the features of MODEL are not blind to the labels of DATA; empty if they are."""
    known = trained_on(model)
    if data == known[0]:
        return f"{model} was trained on {data}, so labels that it memorised are not found; give another --model"
    if data in known:
        return (
            f"{model} started from weights that were trained on {data}: wrong labels that these learnt by heart may be "
            "missed, and the rest are found more easily than in data of other classes"
        )
    return ""


def feature_network(model: str, device: str) -> Classifier:
    """Raises UserError for a MODEL that gives no features."""
    network = load(model, resolve_device(device))
    if not isinstance(network, StagedNetwork):
        raise UserError(f"--model {model}: an exported model gives no features; use its checkpoint")
    return network


@torch.inference_mode()
def pooled_features(network: Classifier, inputs: Tensor, tell: Callable[[int], None]) -> np.ndarray:
    """(N, C, S, S) uint8 to (N, D) float32: the network's levels, averaged over positions, side by side."""
    assert isinstance(network, StagedNetwork)
    device = next(network.parameters()).device
    precision = DTYPES[resolve_precision("auto", device)]
    rows = []
    for start in range(0, len(inputs), BATCH):
        images = network.preprocess.normalize(inputs[start : start + BATCH].to(device))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            last, levels = network.forward_intermediates(images)
        rows.append(torch.cat([level.float().mean((2, 3)) for level in (*levels[:-1], last)], dim=1).cpu())
        tell(min(start + BATCH, len(inputs)))
    return torch.cat(rows).numpy()


@dataclass(frozen=True)
class Judged:
    """``checked``: the rows judged; ``probabilities`` (N, K) out of sample, NaN elsewhere; ``suspects``: rows, the
    most suspect first; ``left_out``: classes with fewer separable images than folds."""

    checked: np.ndarray
    probabilities: np.ndarray
    suspects: list[int]
    left_out: list[int]


def judge(
    features: np.ndarray, labels: Sequence[int], units: Sequence[int], *, classes: int, folds: int, seed: int
) -> Judged:
    """Which labels are suspect. ``features`` (N, D); ``units``: images of one number are kept in one fold.

    Raises UserError if fewer than two classes have enough images.
    """
    given, unit = np.asarray(labels), np.asarray(units)
    separable = [len(set(unit[given == label])) for label in range(classes)]
    kept = [label for label in range(classes) if separable[label] >= folds]
    if len(kept) < 2:
        raise UserError(
            f"checking labels needs at least two classes with {folds} separable images each; this data has {len(kept)}"
        )
    checked = np.isin(given, kept).nonzero()[0]
    position = np.full(classes, -1)
    position[kept] = np.arange(len(kept))
    own = position[given[checked]]
    found = _out_of_sample(features[checked], own, unit[checked], folds, seed)
    probabilities = np.full((len(given), classes), np.nan)
    probabilities[np.ix_(checked, np.array(kept))] = found
    left_out = [label for label in range(classes) if 0 < separable[label] < folds]
    return Judged(checked, probabilities, [int(checked[i]) for i in _ranked(own, found)], left_out)


def _out_of_sample(features: np.ndarray, labels: np.ndarray, units: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(N, K) probabilities of each row by a regression that was fitted on the other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = np.zeros((len(labels), int(labels.max()) + 1))
    fold = spread(labels.tolist(), units.tolist(), folds, seed)
    for number in range(folds):
        held = fold == number
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=200, tol=1e-3))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="lbfgs failed to converge")  # close enough to rank
            regression.fit(features[~held], labels[~held])
        if held.any():
            found[np.ix_(held, regression.classes_)] = regression.predict_proba(features[held])
    return found


def _ranked(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The suspect rows, the most suspect first: as many as confident learning counts, those whose given class is the
    least probable. On planted errors this found more than cleanlab's other filters, at a higher precision."""
    from cleanlab.filter import find_label_issues

    return find_label_issues(
        labels,
        probabilities,
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
