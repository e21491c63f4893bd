"""The guide of a run: the regions of its training images, and its column of metrics.csv."""

from collections.abc import Mapping
from dataclasses import replace

from ..boxes.guide import read_guide, regions_of
from ..data.datasets import Dataset
from ..data.samples import FileSamples, origin_of
from ..errors import UserError
from .config import TrainConfig

GUIDE_COLUMNS = ("train_energy_inside",)
MOST_GUIDED = 32  # images of a step; each costs about three times what it costs without a guide


def guided(dataset: Dataset, config: TrainConfig) -> Dataset:
    """The data set with the regions of ``config.guide``.

    Raises UserError if the guide does not fit the data, or the network cannot be guided.
    """
    assert config.guide is not None
    if dataset.several:
        raise UserError("--guide needs data with one class per image")
    if config.learning == "plain":
        raise UserError("--guide needs masks; the network with --learning plain has none")
    assert dataset.train is not None
    files = origin_of(dataset.train)
    if not isinstance(files, FileSamples):
        raise UserError(f"--guide needs image files, and {dataset.name} has none")
    guide = read_guide(config.guide)
    regions = regions_of(guide, files.paths, dataset.train.labels.tolist(), dataset.classes)
    notice = f"{config.guide.name} guides {regions.known} of {len(regions)} training images"
    return replace(
        dataset,
        regions=regions,
        digest={**dataset.digest, "guide": guide.digest()},
        notices=[*dataset.notices, notice],
    )


def guide_figures(tally: Mapping[str, float]) -> dict[str, float]:
    """The mean share of the evidence inside; nothing of an epoch without a guided image."""
    return {GUIDE_COLUMNS[0]: tally["inside"] / tally["guided"]} if tally["guided"] else {}
