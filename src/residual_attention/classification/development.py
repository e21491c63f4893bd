"""How the masks developed: the class reading of a few validation images, kept at fixed epochs of a run.

Each kept epoch is a file of its own in ``RUN/development``: one small map an image, and the probability of its class.
Nothing in it is random or learned, so a run with and without it has the same weights, and an epoch that is trained
again after a kill writes the same file again.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..atomic import remove_leftovers, write_atomically
from ..attention.masks import attention_modules
from ..attention.originals import Originals, read_originals
from ..attention.overlay import as_picture, enlarged
from ..attention.readings import combined, look_in_parts, read
from ..attention.rows import Row, Sheet
from ..data.datasets import Dataset
from ..data.loading import evaluation_batches
from ..data.preprocess import Preprocess
from ..data.samples import Samples
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..documents import blaming

IMAGES = 4
EPOCHS_KEPT = 6
SIDE_PX = 56  # of a kept map, at most
CLIPPED = 0.01  # of a map: single positions would leave the rest dark
READING = "class"


def kept_epochs(epochs: int) -> list[int]:
    """Those of 1 to ``epochs`` whose masks are kept: the first, the last, and in between by equal factors."""
    return sorted({round(epochs ** (i / (EPOCHS_KEPT - 1))) for i in range(EPOCHS_KEPT)})


@dataclass(frozen=True)
class Watched:
    """Validation images and the class that each is watched for: its own, or the first of several labels."""

    samples: Samples
    classes: Tensor

    @classmethod
    def of(cls, split: Samples) -> "Watched":
        labels = split.labels
        labelled = torch.arange(len(split)) if labels.ndim == 1 else labels.any(dim=1).nonzero()[:, 0]
        few = split.subset(labelled[evenly_spaced(len(labelled), IMAGES)])
        return cls(few, few.labels if labels.ndim == 1 else few.labels.argmax(dim=1))

    def __len__(self) -> int:
        return len(self.samples)

    def images(self, preprocess: Preprocess, device: torch.device) -> Tensor:
        """(n, C, S, S), as the network receives them."""
        return next(iter(evaluation_batches(self.samples, preprocess, batch_size=IMAGES, device=device))).images


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.safetensors"


def keep_masks(model: nn.Module, dataset: Dataset, epoch: int, folder: Path) -> None:
    """Keep what the masks of all modules together read at this ``epoch``; nothing without masks or validation."""
    if dataset.val is None or not attention_modules(model) or not len(watched := Watched.of(dataset.val)):
        return
    images = watched.images(dataset.preprocess, device_of(model))
    found = look_in_parts(model, images, targets=watched.classes)
    maps = combined(read(found, READING), min(SIDE_PX, dataset.preprocess.image_size))
    brightest = maps.flatten(1).quantile(1 - CLIPPED, dim=1)[:, None, None].clamp(min=1e-12)
    chosen = found.probabilities.gather(1, watched.classes[:, None].cpu())[:, 0]
    tensors = {
        "maps": (255 * maps / brightest).round().clamp(max=255).to(torch.uint8),
        "probabilities": chosen.contiguous(),
    }
    path = _path(folder, epoch)
    folder.mkdir(exist_ok=True)
    remove_leftovers(path)
    write_atomically(path, save(tensors))


def _kept(folder: Path, count: int) -> dict[int, dict[str, Tensor]]:
    """What was kept of ``count`` images, by epoch; at most `EPOCHS_KEPT`, as a run that was extended has more."""
    found = {}
    for path in sorted(folder.glob("epoch-*.safetensors")):
        with blaming(f"{path} is damaged", "delete it"):
            try:
                tensors = load(path.read_bytes())
            except SafetensorError as error:
                raise ValueError(error) from error
            if tensors["maps"].shape[0] == len(tensors["probabilities"]) == count and tensors["maps"].ndim == 3:
                found[int(path.stem.split("-")[1])] = tensors
    epochs = list(found)
    return {epochs[i]: found[epochs[i]] for i in evenly_spaced(len(epochs), EPOCHS_KEPT).tolist()}


def development_sheet(folder: Path, dataset: Dataset) -> Sheet | None:
    """The kept maps over the images, a column an epoch; None if fewer than two epochs were kept."""
    if dataset.val is None:
        return None
    watched, preprocess = Watched.of(dataset.val), dataset.preprocess
    kept = _kept(folder, len(watched))
    if len(kept) < 2:
        return None
    originals = read_originals(watched.samples, preprocess)
    if originals is None:
        square = watched.images(preprocess, torch.device("cpu"))
        inputs = [enlarged(picture) for picture in as_picture(preprocess.denormalize(square))]
        originals = Originals(inputs, Preprocess(preprocess.image_size), [""] * len(inputs))
    rows = [
        Row(
            picture=originals.pictures[i],
            title=(dataset.classes[k], "black"),
            file=originals.files[i],
            overlays=[originals.overlay(i, of["maps"][i], signed=False) for of in kept.values()],
            ranges=[f"{100 * float(of['probabilities'][i]):.0f} %" for of in kept.values()],
        )
        for i, k in enumerate(watched.classes.tolist())
    ]
    return Sheet(
        heading="Where the masks of all modules together support the class, with its probability "
        "(dark = low, bright = high; each map scaled to its own range, the brightest 1 % saturated)",
        levels=[f"epoch {epoch}" for epoch in kept],
        modules=[],
        rows=rows,
    )
