"""A trained model on a split of a data set: what ``ran eval`` prints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints import load
from ..checkpoints.own_data import split_for
from ..data.loading import evaluation_batches
from ..data.preprocess import Preprocess
from ..machine import DTYPES, resolve_device, resolve_precision
from .evaluate import evaluate
from .measures import summarise
from .ten_crop import TenCrop

MARGIN = 224 / 256  # of models that were trained without one


def _whole(preprocess: Preprocess) -> Preprocess:
    """The scaled image's whole central square, of which ten crops are taken."""
    if preprocess.resize != "crop":
        raise ValueError(f"--ten-crop is for models trained with --resize crop, not {preprocess.resize}")
    share = preprocess.crop_pct if preprocess.crop_pct < 1 else MARGIN
    return replace(preprocess, image_size=round(preprocess.image_size / share), crop_pct=1.0)


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
    image_size: int | None = None,
    ten_crop: bool = False,
) -> dict[str, Any]:
    """Evaluate MODEL on DATA's split, prepared as the model was trained; JSON values.

    ``image_size`` is another side for the square that the network reads (the paper tests at 224 and 320 px); with
    ``ten_crop`` the mean over ten such squares of the scaled image's centre, instead of its central one.

    Raises ValueError (ImageError among them) in one line: a class that the model does not know, no such
    split, an unreadable image.
    """
    place = resolve_device(device)
    dtype = DTYPES[resolve_precision(precision, place)]
    network = load(model, place, engine=engine, precision="fp32" if precision == "fp16" else precision)
    if image_size is not None:
        network.preprocess = replace(network.preprocess, image_size=image_size)
    size = network.preprocess.image_size
    classifier, preprocess = (
        (TenCrop(network, size), _whole(network.preprocess)) if ten_crop else (network, network.preprocess)
    )
    network.preprocess = preprocess
    data, samples, notices = split_for(network, data, split=split, data_dir=data_dir)
    batches = evaluation_batches(samples, preprocess, batch_size=batch_size, device=place, workers=workers)
    result = evaluate(classifier, batches, precision=dtype)
    return {
        "model": model,
        "data": data,
        "split": split,
        "loss": result.loss,
        **summarise(result.probabilities, result.labels, network.classes),
        "classes": network.classes,
        "image_size_px": size,
        "crops": 10 if ten_crop else 1,
        "precision": precision,
        "engine": getattr(network, "engine", "pytorch"),
        "notices": notices,
    }
