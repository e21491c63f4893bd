"""What masks do for the answer: replace them during the forward pass, and see what the network still knows.

Only a mask that is part of the network can be asked this. A saliency map that is estimated afterwards cannot.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import Classifier
from ..devices import DTYPES, device_of, provenance, resolve_precision
from ..errors import UserError
from .batches import LabelledBatch, Say, check_one_class, silent, split_batches
from .bootstrap import Interval, bootstrap
from .masks import attention_modules

Intervention = Callable[[Tensor, torch.Generator], Tensor]
"""(mask M (B, C, h, w), generator) to what takes its place, of the same shape."""


def mean_over_positions(mask: Tensor, _generator: torch.Generator) -> Tensor:
    """Each channel's mean: how strongly it passes is kept, where is lost."""
    return mask.mean(dim=(2, 3), keepdim=True).expand_as(mask)


def zero(mask: Tensor, _generator: torch.Generator) -> Tensor:
    """M = 0. With attention residual learning, H = T: the trunk alone."""
    return torch.zeros_like(mask)


def one(mask: Tensor, _generator: torch.Generator) -> Tensor:
    """M = 1. With attention residual learning, H = 2 T."""
    return torch.ones_like(mask)


def shuffled_positions(mask: Tensor, generator: torch.Generator) -> Tensor:
    """One permutation of the positions of each image, the same for all its channels."""
    flat = mask.flatten(2)
    order = torch.rand(len(mask), flat.shape[2], generator=generator).argsort(dim=1).to(mask.device)
    return flat.gather(2, order[:, None].expand_as(flat)).view_as(mask)


def shuffled_channels(mask: Tensor, generator: torch.Generator) -> Tensor:
    """One permutation of the channels of each image: the maps are kept, their assignment is lost."""
    order = torch.rand(mask.shape[:2], generator=generator).argsort(dim=1).to(mask.device)
    return mask.gather(1, order[:, :, None, None].expand_as(mask))


def another_image(mask: Tensor, _generator: torch.Generator) -> Tensor:
    """The mask of the next image of the batch."""
    return mask.roll(1, dims=0)


INTERVENTIONS: dict[str, Intervention] = {
    "mean over positions": mean_over_positions,
    "0": zero,
    "1": one,
    "positions shuffled": shuffled_positions,
    "channels shuffled": shuffled_channels,
    "another image's": another_image,
}
UNCHANGED, ALL = "unchanged", "all modules"


@contextmanager
def masks_replaced(
    model: nn.Module, intervention: Intervention, modules: list[str], generator: torch.Generator
) -> Iterator[None]:
    """Within the context, ``model`` uses the result of ``intervention`` instead of the masks of ``modules``.

    Raises UserError for a module without a mask.
    """
    known = attention_modules(model)
    handles = []

    def replace(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return intervention(output, generator)

    try:
        for name in modules:
            if name not in known:
                raise UserError(f"no attention module {name!r}; this network has {', '.join(known) or 'none'}")
            mask = known[name].mask
            assert mask is not None
            handles.append(mask.register_forward_hook(replace))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Effect:
    """Accuracy, confidence in the class predicted with the true masks, and answers that changed, in percent."""

    accuracy_pct: Interval
    confidence_pct: Interval
    changed_pct: Interval


@dataclass(frozen=True, kw_only=True)
class MaskEffects:
    """``effects``: module name (or *all modules*) -> intervention -> `Effect`; ``unchanged``: the network as it is."""

    data: str
    split: str
    images: int
    seed: int
    network: str | None
    precision: str
    unchanged: Effect
    effects: dict[str, dict[str, Effect]]
    hardware: dict[str, Any]
    versions: dict[str, str]
    date: str
    time_s: float

    def rows(self) -> Iterator[tuple[str, str, Effect]]:
        """(module, what replaces its masks, effect), the unchanged network first."""
        yield ALL, UNCHANGED, self.unchanged
        for module, found in self.effects.items():
            for name, effect in found.items():
                yield module, name, effect

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


class _Tally:
    """Per image: whether the answer is right, the confidence in the first answer, whether the answer changed."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def add(self, probabilities: Tensor, labels: Tensor, first: Tensor) -> None:
        answer = probabilities.argmax(dim=1)
        confidence = probabilities.gather(1, first[:, None])[:, 0]
        self.parts.append(torch.stack([(answer == labels).double(), confidence.double(), (answer != first).double()]))

    def effect(self, seed: int) -> Effect:
        values = 100 * torch.cat(self.parts, dim=1).cpu()
        return Effect(*(bootstrap(each, seed) for each in values))


class _Intervening:
    """The answers of a network to the same images, unchanged and with every intervention, by module."""

    def __init__(self, model: Classifier, modules: Sequence[str], seed: int) -> None:
        self.model, self.device = model, device_of(model)
        self.precision = resolve_precision("auto", self.device)
        self.generator = torch.Generator().manual_seed(seed)
        self.targets = {**({name: [name] for name in modules} if len(modules) > 1 else {}), ALL: modules}
        self.unchanged = _Tally()
        self.tallies = {name: {key: _Tally() for key in INTERVENTIONS} for name in self.targets}
        self.images = 0

    @torch.no_grad()
    def _probabilities(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            return self.model(images).float().softmax(dim=1)

    def add(self, batch: LabelledBatch) -> None:
        images = batch.images.contiguous(memory_format=torch.channels_last)
        plain = self._probabilities(images)
        first = plain.argmax(dim=1)
        self.unchanged.add(plain, batch.labels, first)
        for target, names in self.targets.items():
            for key, intervention in INTERVENTIONS.items():
                with masks_replaced(self.model, intervention, names, self.generator):
                    self.tallies[target][key].add(self._probabilities(images), batch.labels, first)
        self.images += len(batch)

    def effects(self, seed: int) -> dict[str, dict[str, Effect]]:
        return {name: {key: tally.effect(seed) for key, tally in each.items()} for name, each in self.tallies.items()}


def measure_interventions(
    model: Classifier,
    data: str,
    *,
    data_dir: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    say: Say = silent,
) -> MaskEffects:
    """Apply every intervention to each module and to all of them, on a split of a data set (all images by default).

    Raises UserError: unknown data, a network without masks, or fewer than two images.
    """
    started = time.perf_counter()
    check_one_class(model, "--intervene")
    modules = list(attention_modules(model))
    if not modules:
        raise UserError("this network has no masks to intervene on")
    found = _Intervening(model, modules, seed)
    for batch in split_batches(model, data, data_dir=data_dir, split=split, limit=limit, say=say):
        found.add(batch)
        say(f"  {found.images} images, {time.perf_counter() - started:.0f} s")
    if found.images < 2:
        raise UserError(f"{data}: interventions need at least two images, because masks are taken from another image")
    return MaskEffects(
        data=data,
        split=split,
        images=found.images,
        seed=seed,
        network=model.card.model,
        precision=found.precision,
        unchanged=found.unchanged.effect(seed),
        effects=found.effects(seed),
        **provenance(found.device),
        time_s=round(time.perf_counter() - started, 1),
    )
