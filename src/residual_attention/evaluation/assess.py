"""A trained model on a split of a data set: what ``ran eval`` prints."""

from pathlib import Path
from typing import Any

from ..checkpoints import load
from ..data.load_split import load_split
from ..data.loading import evaluation_batches
from ..machine import DTYPES, resolve_device, resolve_precision
from .evaluate import evaluate
from .measures import summarise


def _same(data: str, trained: str | None) -> bool:
    """Whether DATA is what the model was trained on, of which only the held-out part may be evaluated."""
    if trained is None or data == trained:
        return data == trained
    return Path(data).exists() and Path(trained).exists() and Path(data).samefile(trained)


def assess(
    model: str,
    data: str | None = None,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    batch_size: int = 256,
    device: str = "auto",
    precision: str = "fp32",
    workers: int = 0,
) -> dict[str, Any]:
    """Evaluate MODEL on DATA's split, prepared as the model was trained; JSON values.

    Raises ValueError (ImageError among them) in one line: a class that the model does not know, no such
    split, an unreadable image.
    """
    place = resolve_device(device)
    dtype = DTYPES[resolve_precision(precision, place)]
    network = load(model, place)
    trained = network.card.get("config", {})
    own = data is None or _same(data, trained.get("data"))
    if data is None:
        data = trained.get("data")
        data_dir = data_dir or (Path(trained["data_dir"]) if trained.get("data_dir") else None)
        if data is None:
            raise ValueError(f"{model} does not say what it was trained on; give DATA")
    samples, notices = load_split(
        data,
        network.preprocess,
        network.classes,
        split=split,
        data_dir=data_dir,
        seed=trained.get("seed", 0),
        val_fraction=trained.get("val_fraction", 0.1),
        test_fraction=trained.get("test_fraction", 0.1),
        whole=not own,
    )
    batches = evaluation_batches(samples, network.preprocess, batch_size=batch_size, device=place, workers=workers)
    result = evaluate(network, batches, precision=dtype)
    return {
        "model": model,
        "data": data,
        "split": split,
        "loss": result.loss,
        **summarise(result.probabilities, result.labels, network.classes),
        "classes": network.classes,
        "precision": precision,
        "notices": notices,
    }
