"""A split of the data that a model was trained on, or of other data, prepared as the model wants it."""

from pathlib import Path

from ..data.load import load_split
from ..data.samples import Samples
from ..errors import DataNotFoundError
from .classifier import Classifier


def _same(data: str, trained: str | None) -> bool:
    """Whether DATA is what the model was trained on, of which only the held-out part may be evaluated."""
    if trained is None or data == trained:
        return data == trained
    return Path(data).exists() and Path(trained).exists() and Path(data).samefile(trained)


def split_for(
    model: Classifier, data: str | None = None, *, split: str = "test", data_dir: Path | None = None
) -> tuple[str, Samples, list[str]]:
    """DATA's name, the samples of its split in the model's classes, and notices.

    The model's own data by default. Of data that it was trained on, what training held out is reproduced from the
    run's seed and fractions, so that no training image is taken for an unseen one.

    Raises:
        UserError: unknown data or split, or classes that the model does not know.
        ImageError: an unreadable image.
    """
    trained = model.card.config
    own = data is None or _same(data, trained.get("data"))
    if data is None:
        data = trained.get("data")
        if data is None:
            raise DataNotFoundError("the model does not say what it was trained on; give DATA")
    if own and data_dir is None and trained.get("data_dir"):
        data_dir = Path(trained["data_dir"])
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
    )
    return data, samples, notices
