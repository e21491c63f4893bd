"""A trained model on a split of a data set: what ``ran eval`` prints."""

from pathlib import Path
from typing import Any

from ..checkpoints import load
from ..checkpoints.own_data import split_for
from ..data.loading import evaluation_batches
from ..machine import DTYPES, resolve_device, resolve_precision
from .evaluate import evaluate
from .measures import summarise


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
    engine: str = "auto",
) -> dict[str, Any]:
    """Evaluate MODEL on DATA's split, prepared as the model was trained; JSON values.

    Raises ValueError (ImageError among them) in one line: a class that the model does not know, no such
    split, an unreadable image.
    """
    place = resolve_device(device)
    dtype = DTYPES[resolve_precision(precision, place)]
    network = load(model, place, engine=engine, precision="fp32" if precision == "fp16" else precision)
    data, samples, notices = split_for(network, data, split=split, data_dir=data_dir)
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
        "engine": getattr(network, "engine", "pytorch"),
        "notices": notices,
    }
