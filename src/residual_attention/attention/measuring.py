"""The values of every measure on one network's maps, image by image."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints import Classifier
from ..devices import DTYPES, device_of, resolve_precision
from ..family.staged import StagedNetwork
from .batches import LabelledBatch
from .faithfulness import BASELINES, replacement_auc
from .localisation import energy_in_box, pointing_hits
from .masks import masks_are_signed
from .methods import method_maps
from .mosaics import confident, make_mosaics
from .peers import grad_cam_is_installed
from .readings import Look
from .road import EVERY, road
from .sanity import Maps, rank_correlation, weight_dependence
from .statistics import mask_statistics

ModuleStatistics = dict[str, dict[str, float]]  # module -> statistic -> value


@dataclass(frozen=True)
class Measure:
    """``text`` is its title; ``lower``: whether lower is better."""

    text: str
    lower: bool = False

    @property
    def title(self) -> str:
        return f"{self.text} ({'lower' if self.lower else 'higher'} is better)"


MEASURES = {
    "deletion_auc": Measure("deletion", lower=True),
    "deletion_blur_auc": Measure("deletion, blurred", lower=True),
    "deletion_noise_auc": Measure("deletion, noise", lower=True),
    "insertion_auc": Measure("insertion"),
    "insertion_mean_auc": Measure("insertion over the mean colour"),
    "insertion_noise_auc": Measure("insertion over noise"),
    "road": Measure("ROAD"),
    "grid_pointing": Measure("grid pointing game"),
    "class_sensitivity": Measure("correlation with the second class", lower=True),
    "weight_dependence": Measure("correlation with random weights", lower=True),
    "pointing_game": Measure("pointing game"),
    "energy_in_box": Measure("energy in the box"),
}
_DEFAULT_BASELINE = {False: "mean", True: "blur"}


class Measuring:
    """The measurements of one network so far: each method's values, mask statistics and correct predictions."""

    def __init__(self, model: Classifier, seed: int, *, score_cam: bool) -> None:
        self.model, self.device, self.seed, self.score_cam = model, device_of(model), seed, score_cam
        self.precision = resolve_precision("auto", self.device)
        self.signed = masks_are_signed(model)
        self.generator = torch.Generator().manual_seed(seed)
        self.values: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self.statistics: list[tuple[int, ModuleStatistics]] = []
        self.images = self.right = 0

    def add(self, batch: LabelledBatch) -> None:
        """Measure a batch. One image in `EVERY` gets the measures that take long."""
        maps, found = self._maps(batch.images)
        for method, heat in maps.items():
            for measure, values in self._faithfulness(heat, batch, found.targets):
                self._keep(method, measure, values)
        second = found.logits.topk(2).indices[:, 1].to(self.device)
        for method, heat in self._maps(batch.images, second)[0].items():
            self._keep(method, "class_sensitivity", rank_correlation(maps[method], heat))
        self._few(batch, maps, found.targets)
        self._grid(batch, found)
        self.statistics.append((len(batch), mask_statistics(found.masks, signed=self.signed)))
        self.right += int((found.targets == batch.labels).sum())
        self.images += len(batch)

    def _maps(
        self, images: Tensor, targets: Tensor | None = None, model: StagedNetwork | None = None
    ) -> tuple[Maps, Look]:
        return method_maps(model or self.model, images, self.generator, targets=targets, score_cam=self.score_cam)

    def _keep(self, method: str, measure: str, values: Tensor) -> None:
        self.values[method][measure].append(values.detach().cpu().double())

    def _faithfulness(self, heat: Tensor, batch: LabelledBatch, targets: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and values (B,) of deletion and insertion, and of localisation if there are boxes."""
        on_device = heat.to(self.device)
        for insertion, name in ((False, "deletion"), (True, "insertion")):
            for baseline in BASELINES:
                key = name if baseline == _DEFAULT_BASELINE[insertion] else f"{name}_{baseline}"
                yield (
                    f"{key}_auc",
                    replacement_auc(
                        self.probabilities, batch.images, targets, on_device, insertion=insertion, baseline=baseline
                    ),
                )
        if batch.boxes is not None:
            yield "pointing_game", pointing_hits(heat, batch.boxes)
            yield "energy_in_box", energy_in_box(heat, batch.boxes)

    def _few(self, batch: LabelledBatch, maps: Maps, targets: Tensor) -> None:
        images, chosen = batch.images[::EVERY], targets[::EVERY]
        few = {method: heat[::EVERY] for method, heat in maps.items()}
        assert isinstance(self.model, StagedNetwork)
        found = weight_dependence(self.model, lambda network: self._maps(images, chosen, network)[0], few, self.seed)
        for method, values in found.items():
            self._keep(method, "weight_dependence", values)
        for method, heat in few.items() if grad_cam_is_installed() else ():
            self._keep(method, "road", road(self.probabilities, images, chosen, heat))

    def _grid(self, batch: LabelledBatch, found: Look) -> None:
        kept = confident(found.logits.to(self.device), batch.labels)
        count = -(-len(batch) // EVERY)
        mosaics = make_mosaics(batch.images[kept], batch.labels[kept], count, self.seed + self.images)
        if mosaics is not None:
            for method, heat in self._maps(mosaics.images, mosaics.targets)[0].items():
                self._keep(method, "grid_pointing", energy_in_box(heat, mosaics.boxes))

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, C, S, S) normalised to (N, K)."""
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"),
        ):
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(dim=1)

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
