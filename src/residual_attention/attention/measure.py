"""``ran attend --measure``: every method's maps on the same images, with bootstrap intervals."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import Classifier
from ..devices import DTYPES, device_of, hardware, resolve_precision, versions
from ..errors import UserError
from .batches import LabelledBatch, Say, boxed_batches, check_one_class, silent, split_batches
from .bootstrap import RESAMPLES, Interval, bootstrap
from .faithfulness import BATCH, STEPS, replacement_auc
from .localisation import energy_in_box, pointing_hits
from .masks import masks_are_signed
from .methods import method_maps
from .statistics import mask_statistics

MEASURES = {
    "deletion_auc": "deletion (lower is better)",
    "insertion_auc": "insertion (higher is better)",
    "pointing_game": "pointing game (higher is better)",
    "energy_in_box": "energy in the box (higher is better)",
}
ModuleStatistics = dict[str, dict[str, float]]  # module -> statistic -> value


@dataclass(frozen=True, kw_only=True)
class MapMeasures:
    """How well each method's maps show what the network uses and where objects are.

    Attributes:
        split: None if ``boxes``, a file name, selects the images.
        accuracy_pct: accuracy of the network on these images, in percent.
        methods: method -> measure (a key of `MEASURES`) -> its mean and interval over images.
        masks: `mask_statistics`, averaged over images.
        protocol: what a reader needs to repeat the measurement.
    """

    data: str
    split: str | None
    boxes: str | None
    images: int
    accuracy_pct: float
    seed: int
    image_size_px: int
    network: str | None
    methods: dict[str, dict[str, Interval]]
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
    model: Classifier,
    data: str,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    limit: int = 500,
    boxes: Path | None = None,
    seed: int = 0,
    say: Say = silent,
) -> MapMeasures:
    """Measure deletion, insertion, localisation (with ``boxes``) and mask statistics.

    Every method sees the same images and explains the class that the network predicts. With ``boxes``, DATA is the
    folder that their paths are relative to. ``say`` is called with a line after each batch.

    Raises:
        UserError: unknown data, or boxes that do not match them.
        ModuleNotFoundError: captum is not installed.
    """
    started = time.perf_counter()
    check_one_class(model, "--measure")
    batches = (
        split_batches(model, data, data_dir=data_dir, split=split, limit=limit, say=say)
        if boxes is None
        else boxed_batches(model, Path(data), boxes, limit=limit)
    )
    measured = _Measured(model, seed)
    for batch in batches:
        measured.add(batch)
        say(f"  {measured.images} images, {time.perf_counter() - started:.0f} s")
    if measured.images == 0:
        raise UserError(f"nothing to measure: preprocessing crops every box of {boxes} away")
    return MapMeasures(
        data=data,
        split=None if boxes else split,
        boxes=None if boxes is None else boxes.name,
        images=measured.images,
        accuracy_pct=100 * measured.right / measured.images,
        seed=seed,
        image_size_px=model.preprocess.image_size,
        network=model.card.model,
        methods=measured.intervals(seed),
        masks=measured.mean_statistics(),
        protocol={
            "target": "predicted class",
            "steps": STEPS,
            "deletion": "pixels replaced by the mean colour",
            "insertion": "pixels restored over a Gaussian blur",
            "interval": f"95 % percentile bootstrap over images, {RESAMPLES} resamples",
            "precision": measured.precision,
            "batch": BATCH,
        },
        hardware=hardware(device_of(model)),
        versions=versions(),
        date=time.strftime("%Y-%m-%d"),
        time_s=round(time.perf_counter() - started, 1),
    )


class _Measured:
    """The measurements so far: each method's values, mask statistics and correct predictions."""

    def __init__(self, model: Classifier, seed: int) -> None:
        self.model, self.device = model, device_of(model)
        self.precision = resolve_precision("auto", self.device)
        self.generator = torch.Generator().manual_seed(seed)
        self.signed = masks_are_signed(model)
        self.values: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self.statistics: list[tuple[int, ModuleStatistics]] = []
        self.images = self.right = 0

    def add(self, batch: LabelledBatch) -> None:
        maps, found = method_maps(self.model, batch.images, self.generator)
        for method, heat in maps.items():
            for measure, values in self._measures_of(heat, batch, found.targets):
                self.values[method][measure].append(values.cpu().double())
        self.statistics.append((len(batch), mask_statistics(found.masks, signed=self.signed)))
        self.right += int((found.targets == batch.labels).sum())
        self.images += len(batch)

    def _measures_of(self, heat: Tensor, batch: LabelledBatch, targets: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and values (B,) of each measure for one method's maps (B, S, S)."""
        on_device = heat.to(self.device)
        for measure, insertion in (("deletion_auc", False), ("insertion_auc", True)):
            yield measure, replacement_auc(self._probabilities, batch.images, targets, on_device, insertion=insertion)
        if batch.boxes is not None:
            yield "pointing_game", pointing_hits(heat, batch.boxes)
            yield "energy_in_box", energy_in_box(heat, batch.boxes)

    def _probabilities(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(dim=1)

    def intervals(self, seed: int) -> dict[str, dict[str, Interval]]:
        return {
            method: {measure: bootstrap(torch.cat(values), seed) for measure, values in measures.items()}
            for method, measures in self.values.items()
        }

    def mean_statistics(self) -> ModuleStatistics:
        """Mask statistics averaged over all images."""
        first = self.statistics[0][1]
        return {
            module: {
                key: sum(count * found[module][key] for count, found in self.statistics) / self.images
                for key in first[module]
            }
            for module in first
        }
