"""Loads a split for a trained model, from its training data or from other data."""

import os
from pathlib import Path

from ..data.load import load_split
from ..data.samples import Samples
from ..errors import DataNotFoundError
from .classifier import Classifier


def _same(data: str, trained: str | None) -> bool:
    """Whether DATA is the data that the model was trained on; then only its held-out images may be evaluated.

    A file that was made for sharing knows the folder by its name alone.
    """
    if trained is None or data == trained:
        return data == trained
    if trained == Path(trained).name and not os.path.exists(trained):
        return Path(data).resolve().name == trained
    return os.path.exists(data) and os.path.exists(trained) and Path(data).samefile(trained)


def known_data(model: Classifier, data: str | None) -> bool:
    """Whether DATA, or the default, is what the model was trained on."""
    return data is None or _same(data, model.card.config.get("data"))


def split_for(
    model: Classifier, data: str | None = None, *, split: str = "test", data_dir: Path | None = None
) -> tuple[str, Samples, list[str]]:
    """Load one split of DATA: its name, its samples labelled by the model's classes, and notices.

    DATA defaults to the data that the model was trained on. For these, the held-out images are reproduced from the
    run's seed and fractions, so no training image counts as unseen.

    Raises:
        UserError: unknown data or split, or classes that the model does not have.
        ImageError: an image is unreadable.
    """
    trained = model.card.config
    own = known_data(model, data)
    if data is None:
        data = trained.get("data")
        if data is None:
            raise DataNotFoundError("the model does not record its training data; give DATA")
    if own and data_dir is None and trained.get("data_dir"):
        data_dir = Path(trained["data_dir"])
    by_name = own and data != trained.get("data") and not os.path.exists(trained.get("data") or "")
    samples, notices = load_split(
        data,
        model.preprocess,
        model.classes,
        split=split,
        data_dir=data_dir,
        seed=trained.get("seed", 0),
        val_fraction=trained.get("val_fraction", 0.1),
        test_fraction=trained.get("test_fraction", 0.1),
        limit_train=trained.get("limit_train") if own else None,
        whole=not own,
        train_images=model.card.train_images if own else None,
        split_rule=trained.get("split_rule", "shuffle"),
        placed=model.card.placed if own else None,
        several=model.card.confidence.several,
        folds=trained.get("folds") if own else None,
        fold=trained.get("fold") if own else None,
    )
    if by_name:
        notices.append(f"{data} has the name of the training data, so only its held-out images are used")
    return data, samples, notices
