"""What a spot alone does to the answers: pasted into images of other classes, and covered in the class's own.

A shortcut moves the answer wherever it is pasted. A natural feature of the class does so far less from a spot fixed in
advance, and no more from there than from its controls: other spots of the same size, and the same spot of yet other
classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.bootstrap import bootstrap
from ..checkpoints import Classifier
from ..data.randomness import torch_generator
from ..devices import DTYPES, device_of, resolve_precision
from .findings import Covered, Pasted
from .gather import Gathered
from .spots import Spot, controls

PIXELS_AT_ONCE = 512 * 32 * 32  # in a pass without gradients


def recoloured(images: Tensor, donors: Tensor) -> Tensor:
    """``images`` (B, C, S, S) uint8 with each channel's mean and standard deviation of the donors."""
    ours, theirs = images.float(), donors.float()
    mean, std = ours.mean((2, 3), keepdim=True), ours.std((2, 3), keepdim=True).clamp(min=1.0)
    new_mean, new_std = theirs.mean((2, 3), keepdim=True), theirs.std((2, 3), keepdim=True)
    return ((ours - mean) / std * new_std + new_mean).round().clamp(0, 255).to(torch.uint8)


def transplanted(images: Tensor, donors: Tensor, spot: Spot) -> Tensor:
    """``images`` (B, C, S, S) uint8 with the donors' pixels, or colours, in the spot."""
    if spot.kind == "colours":
        return recoloured(images, donors)
    return torch.where(spot.pixels(images.shape[-1]).to(images.device), donors, images)


@dataclass(frozen=True)
class Cast:
    """Images by number: ``hosts`` (n,) of other classes, ``donors`` (n,) of the class, ``strangers`` (n,) of a class
    that is neither the class nor, where there are three, the host's."""

    hosts: Tensor
    donors: Tensor
    strangers: Tensor


class Prober:
    """Asks a network about changed images. Every draw is a function of the seed and what it is for."""

    def __init__(self, model: Classifier, gathered: Gathered, seed: int) -> None:
        self.model, self.gathered, self.seed = model, gathered, seed
        self.device = device_of(model)
        self.images = gathered.images.to(self.device) if self.device.type == "cuda" else gathered.images
        self.precision = DTYPES[resolve_precision("auto", self.device)]
        self.unchanged = self.probabilities(self.images)

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """(B, C, S, S) uint8 to (B, K) on the CPU."""
        size = max(8, PIXELS_AT_ONCE // images.shape[-1] ** 2)
        found = []
        for part in images.split(size):
            squares = self.model.preprocess.normalize(part.to(self.device))
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                logits = self.model(squares.contiguous(memory_format=torch.channels_last))
            found.append(self.model.probabilities(logits.float()).cpu())
        return torch.cat(found)

    def cast(self, label: int, count: int, purpose: str) -> Cast:
        labels = self.gathered.labels
        generator = torch_generator(self.seed, "audit", purpose, label)
        own, others = ((labels == label).nonzero()[:, 0], (labels != label).nonzero()[:, 0])
        hosts = others[torch.randperm(len(others), generator=generator)[:count]]
        donors = own[torch.randint(len(own), (len(hosts),), generator=generator)]
        strangers = others[torch.randint(len(others), (8, len(hosts)), generator=generator)]
        apart = labels[strangers] != labels[hosts]
        return Cast(hosts, donors, strangers.gather(0, apart.int().argmax(dim=0, keepdim=True))[0])

    def _changed(self, hosts: Tensor, donors: Tensor, spot: Spot) -> Tensor:
        return self.probabilities(transplanted(self.images[hosts], self.images[donors], spot))

    def rise(self, label: int, cast: Cast, spot: Spot) -> float:
        """How much the class's probability rises on average when its spot is pasted, 0 to 1."""
        after = self._changed(cast.hosts, cast.donors, spot)[:, label]
        return float((after - self.unchanged[cast.hosts, label]).mean())

    def pasted(self, label: int, cast: Cast, spot: Spot) -> Pasted:
        """The effect of the class's spot on images of other classes, next to the strongest of its controls."""
        hosts = cast.hosts
        after, before = self._changed(hosts, cast.donors, spot), self.unchanged[hosts]
        rise = after[:, label] - before[:, label]
        same = "the colours of other classes" if spot.kind == "colours" else "the same spot of other classes"
        rivals = [(same, self._changed(hosts, cast.strangers, spot))]
        rivals += [(other.name, self._changed(hosts, cast.donors, other)) for other in controls(spot)]
        control, control_rise = max(
            ((name, found[:, label] - before[:, label]) for name, found in rivals), key=lambda one: float(one[1].mean())
        )
        answers = (after.argmax(dim=1) == label).float() - (before.argmax(dim=1) == label).float()
        return Pasted(
            images=len(hosts),
            rise=bootstrap(100 * rise, self.seed),
            control=control,
            control_rise=bootstrap(100 * control_rise, self.seed),
            lift=bootstrap(100 * (rise - control_rise), self.seed),
            answers_pct=100 * float(answers.mean()),
        )

    def covered(self, label: int, count: int, spot: Spot) -> Covered:
        """What covering the spot with that of other classes takes away from the class's own images."""
        labels = self.gathered.labels
        generator = torch_generator(self.seed, "audit", "cover", label)
        own, others = ((labels == label).nonzero()[:, 0], (labels != label).nonzero()[:, 0])
        own = own[torch.randperm(len(own), generator=generator)[:count]]
        donors = others[torch.randint(len(others), (len(own),), generator=generator)]
        before, after = self.unchanged[own], self._changed(own, donors, spot)
        drops = [before[:, label] - self._changed(own, donors, other)[:, label] for other in controls(spot)[:2]]
        control = max(drops, key=lambda drop: float(drop.mean()), default=None)
        return Covered(
            images=len(own),
            drop=bootstrap(100 * (before[:, label] - after[:, label]), self.seed),
            control_drop=None if control is None else bootstrap(100 * control, self.seed),
            right_before_pct=100 * float((before.argmax(dim=1) == label).float().mean()),
            right_after_pct=100 * float((after.argmax(dim=1) == label).float().mean()),
        )
