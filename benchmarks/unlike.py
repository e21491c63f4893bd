"""How well five scores tell images of other data from those that a network was trained on: AUROC.

CIFAR-10's test images against CIFAR-100's and against digits, with the weights that ship.

- *likeness*: what `ran predict` uses (`checkpoints.confidence.likeness`), with the centre of training images.
- *energy*: minus the log-sum-exp of the logits (Liu et al., 2020).
- *max-logit*: minus the largest logit (Hendrycks et al., 2022).
- *confidence*: one minus the largest probability (Hendrycks and Gimpel, 2017).
- *mahalanobis*: smallest squared distance of the pooled features to a class mean, under one covariance (Lee et al.,
  2018), fitted on training images.

CIFAR-100 shares classes with CIFAR-10 (pickup truck and bus are trucks to it), so no score can reach 100 %.

python benchmarks/unlike.py --cifar10 DIR --cifar100 DIR [--out results/unlike_cifar10.json]
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from record import write_record
from residual_attention import load
from residual_attention.checkpoints import Classifier
from residual_attention.checkpoints.confidence import likeness
from residual_attention.data.load import load_dataset
from residual_attention.data.loading import evaluation_batches
from residual_attention.data.request import DataRequest
from residual_attention.data.samples import Samples
from residual_attention.data.splits import evenly_spaced

MODELS = ("attention56_cifar.cifar10", "attention92_cifar.cifar10")


def samples(data: str, split: str, folder: Path | None, model: Classifier, limit: int) -> Samples:
    """Evenly spaced images of a split, prepared as the model's own."""
    how = model.preprocess
    dataset = load_dataset(
        DataRequest(data=data, data_dir=folder, image_size=how.image_size, resize=how.resize, in_chans=how.in_chans),
        preprocess=how,
    )
    found = getattr(dataset, split)
    return found.subset(evenly_spaced(len(found), limit))


@torch.inference_mode()
def features_and_logits(model: Classifier, images: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled features (N, C), logits (N, K) and labels (N,)."""
    head, rows = model.get_submodule("head"), []
    for batch in evaluation_batches(images, model.preprocess, batch_size=100, device=torch.device("cpu")):
        pooled = head(model.forward_features(batch.images), pre_logits=True)  # type: ignore[operator]
        rows.append((pooled, head.fc(pooled), batch.labels))  # type: ignore[operator]
    features, logits, labels = (torch.cat(column) for column in zip(*rows, strict=True))
    return features, logits, labels


def mahalanobis(train: tuple[Tensor, Tensor, Tensor], features: Tensor) -> Tensor:
    known, _, labels = train
    means = torch.stack([known[labels == label].mean(0) for label in labels.unique()])
    centred = (known - means[labels]).double()
    precision = torch.linalg.pinv(centred.T @ centred / len(centred), hermitian=True)
    away = features.double()[:, None] - means.double()
    return torch.einsum("nkc,cd,nkd->nk", away, precision, away).amin(dim=1)


def scores(
    found: tuple[Tensor, Tensor, Tensor], train: tuple[Tensor, Tensor, Tensor], weight: Tensor
) -> dict[str, Tensor]:
    """By name, (N,); higher is less like the training images. ``weight`` (K, C) is the linear layer's."""
    features, logits, _ = found
    return {
        "likeness": -likeness(features, weight, train[0].mean(dim=0)),
        "energy": -logits.logsumexp(dim=1),
        "max-logit": -logits.amax(dim=1),
        "confidence": 1 - logits.softmax(dim=1).amax(dim=1),
        "mahalanobis": mahalanobis(train, features),
    }


def measured(name: str, given: argparse.Namespace) -> dict:
    """AUROC of each score against each other data set, and the share flagged where 95 % of the test images pass."""
    model = load(name)
    weight = model.get_submodule("head.fc").weight.detach()  # type: ignore[union-attr]
    train = features_and_logits(model, samples("cifar10", "train", given.cifar10, model, given.train_images))
    known = scores(
        features_and_logits(model, samples("cifar10", "test", given.cifar10, model, given.images)), train, weight
    )
    result: dict = {}
    for other, folder in (("cifar100", given.cifar100), ("digits", None)):
        split = "test" if folder else "train"  # digits have 360 test images; the network has seen none of them
        away = scores(features_and_logits(model, samples(other, split, folder, model, given.images)), train, weight)
        result[other] = {"images": len(away["energy"])}
        for score, values in known.items():
            both = torch.cat([values, away[score]])
            labels = torch.cat([torch.zeros(len(values)), torch.ones(len(away[score]))]).long()
            flagged = (away[score] > values.quantile(0.95)).double().mean().item()
            result[other][score] = {
                "auroc_pct": round(100 * binary_auroc(both.float().argsort().argsort() / len(both), labels).item(), 2),
                "flagged_pct_at_95_pct_kept": round(100 * flagged, 1),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 folder; downloaded by default")
    parser.add_argument("--cifar100", type=Path, help="CIFAR-100 folder; downloaded by default")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--train-images", type=int, default=2500, help="for likeness and mahalanobis")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = {
        "images": given.images,
        "train_images": given.train_images,
        "models": {name: measured(name, given) for name in MODELS},
    }
    write_record(result, given.out)


if __name__ == "__main__":
    main()
