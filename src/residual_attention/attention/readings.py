"""Readings: how the many channels of a mask become one map per module.

Let M (C, h, w) be a module's mask, y the logit of a class, and R = M * dy/dM the mask's contribution to that logit:
to first order, how much y would drop if M were 0 at that position of that channel.

- *mean*: the mean of M over channels. Class-independent; the usual first choice.
- *excited*: the one channel whose R, summed over positions, is largest: the channel most excited by the class.
- *class*: the positive part of R summed over channels, where the mask supports the class.
- a channel number: that channel of M.
- a plugin's reading: any other function of M and R (`choices.register_reading`).

`combined` adds up the modules' maps. Only *class* answers "why this class"; the others show the mask itself.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..checkpoints.confidence import Confidence, confidence_of
from ..checkpoints.exported import ExportedClassifier
from ..errors import UserError
from ..family.modes import evaluating
from .choices import READINGS
from .geometry import upsample
from .masks import attention_modules, plain_network, record_masks


@dataclass(frozen=True)
class Look:
    """The results of a forward pass over B images, and of a backward pass if requested.

    Attributes:
        logits: (B, K) float32.
        confidence: of the classifier's card; makes `probabilities` of the logits.
        targets: (B,) the class whose logit is explained; the most probable one unless others were asked for.
        masks: module name -> M (B, C, h, w), low to high level.
        contributions: module name -> R = M * dy/dM (B, C, h, w); empty without gradients.
        before, after: trunk output T and fused output H (B, C, h, w); empty unless requested.
    """

    logits: Tensor
    targets: Tensor
    masks: OrderedDict[str, Tensor]
    contributions: OrderedDict[str, Tensor]
    before: OrderedDict[str, Tensor]
    after: OrderedDict[str, Tensor]
    confidence: Confidence = field(default_factory=Confidence)

    def on_cpu(self) -> "Look":
        """A copy with every tensor on the CPU."""

        def moved(maps: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
            return OrderedDict((name, tensor.cpu()) for name, tensor in maps.items())

        maps = (moved(part) for part in (self.masks, self.contributions, self.before, self.after))
        return Look(self.logits.cpu(), self.targets.cpu(), *maps, confidence=self.confidence)

    @property
    def probabilities(self) -> Tensor:
        return self.confidence.probabilities(self.logits)


RIVAL = False  # whether readings explain a class against its strongest rival


def explained(logits: Tensor, targets: Tensor, *, rival: bool) -> Tensor:
    """What is differentiated, (B,): the logit of the target, with ``rival`` minus the largest of the other logits.

    The answer depends on differences of logits alone: evidence that raises all of them supports no class.
    """
    own = logits.gather(1, targets[:, None])[:, 0]
    if not rival or logits.shape[1] < 2:
        return own
    return own - logits.scatter(1, targets[:, None], float("-inf")).amax(dim=1)


def look(
    model: nn.Module,
    images: Tensor,
    *,
    targets: Tensor | None = None,
    gradients: bool = True,
    features: bool = False,
    rival: bool = RIVAL,
) -> Look:
    """Masks and logits of preprocessed ``images`` (B, C, H, W), in eval mode; the model's mode is restored.

    ``targets`` (B,) are the classes that are explained; by default the predicted ones. ``rival``: see `explained`.
    """
    network = plain_network(model)
    if not isinstance(network, ExportedClassifier) and not attention_modules(network):
        raise UserError("this network has no masks: it was built with learning=plain")
    if isinstance(network, ExportedClassifier):
        return _look_exported(network, images, gradients or features)
    with (
        evaluating(network),
        torch.set_grad_enabled(gradients),
        record_masks(network, features=features, attached=gradients) as found,
    ):
        logits = network(images.detach().requires_grad_(gradients))
        chosen = logits.argmax(dim=1) if targets is None else targets.to(logits.device)
        contributions: OrderedDict[str, Tensor] = OrderedDict()
        if gradients:
            score = explained(logits, chosen, rival=rival and not confidence_of(network).several).sum()
            slopes = torch.autograd.grad(score, list(found.masks.values()))
            for (name, mask), slope in zip(found.masks.items(), slopes, strict=True):
                contributions[name] = (mask * slope).detach().float()

    def plain(maps: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        return OrderedDict((name, tensor.detach().float()) for name, tensor in maps.items())

    return Look(
        logits.detach().float(),
        chosen,
        plain(found.masks),
        contributions,
        plain(found.before),
        plain(found.after),
        confidence_of(network),
    )


PIXELS_AT_ONCE = 50 * 64 * 64  # in a pass with gradients; about 1 GB of activations


def images_at_once(size: int) -> int:
    """The number of images of ``size`` px per pass that keeps activations."""
    return max(1, min(50, PIXELS_AT_ONCE // (size * size)))


def look_in_parts(model: nn.Module, images: Tensor, *, targets: Tensor | None = None, gradients: bool = True) -> Look:
    """`look` at any number of images, in parts that fit in memory; masks and logits are on the CPU."""
    size = images_at_once(images.shape[-1])
    of_parts = [None] * len(images) if targets is None else targets.split(size)
    parts = [
        look(model, part, targets=chosen, gradients=gradients)
        for part, chosen in zip(images.split(size), of_parts, strict=False)
    ]

    def joined(name: str) -> OrderedDict[str, Tensor]:
        maps = [getattr(part, name) for part in parts]
        return OrderedDict((module, torch.cat([each[module].cpu() for each in maps])) for module in maps[0])

    logits, targets = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("logits", "targets"))
    return Look(
        logits,
        targets,
        joined("masks"),
        joined("contributions"),
        OrderedDict(),
        OrderedDict(),
        confidence_of(plain_network(model)),
    )


def _look_exported(network: ExportedClassifier, images: Tensor, more: bool) -> Look:
    """Masks of an exported network, which has no gradients and no features."""
    if more:
        raise UserError(
            "an .onnx file gives only the mean and channels of its masks; other readings need the PyTorch model"
        )
    logits, masks = network.with_masks(images)
    return Look(
        logits,
        logits.argmax(dim=1),
        masks,
        OrderedDict(),
        OrderedDict(),
        OrderedDict(),
        confidence_of(network),
    )


def last_of_each_stage(names: list[str]) -> list[str]:
    """The last attention module of each stage, given names such as ``stages.0.1``."""
    return list({name.split(".")[1]: name for name in names}.values())


def level_names(names: Sequence[str]) -> dict[str, str]:
    """What people call modules such as ``stages.1.2``, by stage: ``low level``, ``middle level 2``, ``high level``."""
    stages = [name.split(".")[1] for name in names]
    levels = ["low" if stage == stages[0] else "high" if stage == stages[-1] else "middle" for stage in stages]
    found = {}
    for place, (name, level) in enumerate(zip(names, levels, strict=True)):
        number = f" {levels[: place + 1].count(level)}" if levels.count(level) > 1 else ""
        found[name] = f"{level} level{number}"
    return found


def check_channel(channel: int, masks: Mapping[str, Tensor]) -> None:
    """Raises UserError for a channel that no module has."""
    most = max(mask.shape[1] for mask in masks.values())
    if not 0 <= channel < most:
        raise UserError(f"channel must lie between 0 and {most - 1}, not {channel}")


def read(found: Look, reading: str | int = "mean") -> OrderedDict[str, Tensor]:
    """One map per module, name -> (B, h, w), by the reading's name or a channel number.

    Modules have different numbers of channels: those without the requested channel are left out.

    Raises:
        UserError: an unknown reading or channel, or a reading that needs gradients that were not computed.
    """
    if isinstance(reading, int):
        check_channel(reading, found.masks)
        return OrderedDict((name, mask[:, reading]) for name, mask in found.masks.items() if reading < mask.shape[1])
    if READINGS.choice(reading).gradients and len(found.contributions) < len(found.masks):
        raise UserError(f"the reading {reading!r} needs gradients")
    reduce = READINGS.value(reading)
    return OrderedDict((name, reduce(mask, found.contributions.get(name))) for name, mask in found.masks.items())


def combined(maps: Mapping[str, Tensor], size: int) -> Tensor:
    """The sum of the modules' maps, (B, size, size): their positive parts, each normalised to sum 1.

    A map without positive values adds nothing.
    """
    total: Tensor | None = None
    for each in maps.values():
        large = upsample(each.clamp(min=0), size, size)
        share = large / large.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        total = share if total is None else total + share
    if total is None:
        raise UserError("no attention modules, so no maps")
    return total


def signed_sum(contributions: Mapping[str, Tensor], size: int) -> Tensor:
    """The positive part of the modules' evidence summed with its sign, (B, size, size).

    Each module's R summed over channels is divided by its sum of absolute values. Unlike in `combined`, what one module
    counts against the class takes from what another counts for it.
    """
    total = torch.zeros(())
    for each in contributions.values():
        large = upsample(each.sum(dim=1), size, size)
        total = total.to(large.device) + large / large.abs().sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return total.clamp(min=0)
