"""``ran attend --measure``: every method's maps on the same images, with bootstrap intervals."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import Classifier
from ..devices import device_of, provenance
from ..errors import UserError
from .batches import Say, boxed_batches, check_one_class, silent, split_batches
from .bootstrap import RESAMPLES, Interval, bootstrap
from .faithfulness import BATCH, STEPS
from .measuring import MEASURES, Measuring, ModuleStatistics
from .mosaics import CONFIDENT
from .peers import IG_STEPS
from .road import EVERY, KEPT_PCT
from .sanity import rank_correlation

PROTOCOL: dict[str, Any] = {
    "target": "predicted class",
    "steps": STEPS,
    "deletion": "pixels replaced by the mean colour; also by a Gaussian blur and by noise",
    "insertion": "pixels restored over a Gaussian blur; also over the mean colour and noise",
    "road": f"{', '.join(map(str, KEPT_PCT))} % of the pixels kept, one image in {EVERY}",
    "grid_pointing": f"2x2 mosaics, one for {EVERY} images, of images classified with {CONFIDENT:.0%} or more",
    "weight_dependence": f"Spearman, mean over a cascade from the classifier down, one image in {EVERY}",
    "integrated gradients": f"{IG_STEPS} steps from the mean colour",
    "interval": f"95 % percentile bootstrap over images and networks, {RESAMPLES} resamples",
}
"""How maps are measured, as it is written beside the figures."""


@dataclass(frozen=True, kw_only=True)
class MapMeasures:
    """How well each method's maps show what the network uses and where objects are.

    Attributes:
        split: None if ``boxes``, a file name, selects the images.
        accuracy_pct: accuracy on these images, mean over the networks.
        methods: method -> measure (a key of `MEASURES`) -> its mean and interval over images and networks.
        agreement: `rank_agreement` of each two measures.
        masks: `mask_statistics` of the first network, averaged over images.
        protocol: what a reader needs to repeat the measurement.
    """

    data: str
    split: str | None
    boxes: str | None
    images: int
    networks: int
    accuracy_pct: float
    seed: int
    image_size_px: int
    network: str | None
    methods: dict[str, dict[str, Interval]]
    agreement: dict[str, dict[str, float]]
    masks: ModuleStatistics
    protocol: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, str]
    date: str
    time_s: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def measure_maps(
    models: Sequence[Classifier],
    data: str,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    limit: int = 500,
    boxes: Path | None = None,
    seed: int = 0,
    score_cam: bool = False,
    say: Say = silent,
) -> MapMeasures:
    """Measure every method's maps by `MEASURES`, localisation with ``boxes``, and mask statistics.

    Every method sees the same images and explains the class that the network predicts. Of several ``models``, such as
    one network trained with several seeds, intervals are over images and networks. With ``boxes``, DATA is the folder
    that their paths are relative to. ``say`` is called with a line after each batch.

    Raises:
        UserError: unknown data, or boxes that do not match them.
        ModuleNotFoundError: captum is not installed.
    """
    started = time.perf_counter()
    networks = []
    for model in models:
        check_one_class(model, "--measure")
        measuring = Measuring(model, seed, score_cam=score_cam)
        batches = (
            split_batches(model, data, data_dir=data_dir, split=split, limit=limit, say=say)
            if boxes is None
            else boxed_batches(model, Path(data), boxes, limit=limit)
        )
        for batch in batches:
            measuring.add(batch)
            say(f"  {measuring.images} images, {time.perf_counter() - started:.0f} s")
        if measuring.images == 0:
            raise UserError(f"nothing to measure: preprocessing crops every box of {boxes} away")
        networks.append(measuring)
    first, methods = networks[0], _intervals(networks, seed)
    model = models[0]
    return MapMeasures(
        data=data,
        split=None if boxes else split,
        boxes=None if boxes is None else boxes.name,
        images=first.images,
        networks=len(networks),
        accuracy_pct=100 * sum(each.right / each.images for each in networks) / len(networks),
        seed=seed,
        image_size_px=model.preprocess.image_size,
        network=model.card.model,
        methods=methods,
        agreement=rank_agreement(methods),
        masks=first.mean_statistics(),
        protocol={**PROTOCOL, "precision": first.precision, "batch": BATCH},
        **provenance(device_of(model)),
        time_s=round(time.perf_counter() - started, 1),
    )


def _intervals(networks: Sequence[Measuring], seed: int) -> dict[str, dict[str, Interval]]:
    """Over images and networks; a measure that some network lacks, such as one without mosaics, is left out."""
    found: dict[str, dict[str, Interval]] = {}
    for method in networks[0].values:
        measured = [network.values[method] for network in networks]
        shared = [name for name in MEASURES if all(name in of_network for of_network in measured)]
        found[method] = {}
        for name in shared:
            rows = [torch.cat(of_network[name]) for of_network in measured]
            length = min(map(len, rows))
            found[method][name] = bootstrap(torch.stack([row[:length] for row in rows]), seed)
    return found


def rank_agreement(methods: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, float]]:
    """Spearman's correlation between the orders in which two measures put the methods; 1: the same order."""
    shown = [name for name in MEASURES if all(name in found for found in methods.values())]
    better = {
        name: torch.tensor([(-1 if MEASURES[name].lower else 1) * found[name].mean for found in methods.values()])
        for name in shown
    }

    def agreement(one: str, other: str) -> float:
        return round(rank_correlation(better[one][None, None], better[other][None, None]).item(), 3)

    return {one: {other: agreement(one, other) for other in shown} for one in shown}
