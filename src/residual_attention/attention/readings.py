"""From a mask of many channels to one map a module: what each reading means.

Let M (C, h, w) be a module's mask, y the logit of a class, and R = M * dy/dM the mask's contribution to that logit:
what y would lose, to first order, if M were 0 at that position of that channel.

- *mean*: the mean of M over channels. Class-independent; what people draw first.
- *excited*: the one channel whose R, summed over positions, is largest: the channel most excited by the class.
- *class*: the positive part of R summed over channels, where the mask supports the class.
- a channel number: that channel of M.
- what a plugin registers: any other function of M and R (`choices.register_reading`).

`combined` adds up the modules' maps. Only *class* answers "why this class"; the others show the mask itself.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoints.exported import ExportedClassifier
from ..errors import UserError
from ..family.modes import evaluating
from .choices import READINGS
from .geometry import upsample
from .masks import attention_modules, plain_network, record_masks


@dataclass(frozen=True)
class Look:
    """One forward pass, and a backward one when asked for, over B images.

    Attributes:
        logits: (B, K) float32.
        targets: (B,) the class to whose logit masks contribute.
        masks: module name -> M (B, C, h, w), low to high level.
        contributions: module name -> R = M * dy/dM (B, C, h, w); empty without gradients.
        before, after: trunk output T and fused output H (B, C, h, w); empty unless asked for.
    """

    logits: Tensor
    targets: Tensor
    masks: OrderedDict[str, Tensor]
    contributions: OrderedDict[str, Tensor]
    before: OrderedDict[str, Tensor]
    after: OrderedDict[str, Tensor]

    def on_cpu(self) -> "Look":
        """The same, with every tensor in main memory."""

        def moved(maps: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
            return OrderedDict((name, tensor.cpu()) for name, tensor in maps.items())

        maps = (moved(part) for part in (self.masks, self.contributions, self.before, self.after))
        return Look(self.logits.cpu(), self.targets.cpu(), *maps)

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(dim=1)


def look(
    model: nn.Module,
    images: Tensor,
    *,
    targets: Tensor | None = None,
    gradients: bool = True,
    features: bool = False,
) -> Look:
    """Masks and logits of preprocessed ``images`` (B, C, H, W), in eval mode; the model's mode is restored.

    ``targets`` (B,) are the classes that the gradients are of; the predicted ones by default.
    """
    network = plain_network(model)
    if not isinstance(network, ExportedClassifier) and not attention_modules(network):
        raise UserError("this network has no masks: it was made with learning=plain")
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
            score = logits.gather(1, chosen[:, None]).sum()
            slopes = torch.autograd.grad(score, list(found.masks.values()))
            for (name, mask), slope in zip(found.masks.items(), slopes, strict=True):
                contributions[name] = (mask * slope).detach().float()

    def plain(maps: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        return OrderedDict((name, tensor.detach().float()) for name, tensor in maps.items())

    return Look(
        logits.detach().float(), chosen, plain(found.masks), contributions, plain(found.before), plain(found.after)
    )


PIXELS_AT_ONCE = 50 * 64 * 64  # of a pass with gradients; about a gigabyte of activations


def images_at_once(size: int) -> int:
    """How many images of ``size`` px a pass that keeps activations may take."""
    return max(1, min(50, PIXELS_AT_ONCE // (size * size)))


def look_in_parts(model: nn.Module, images: Tensor, *, gradients: bool = True) -> Look:
    """`look` over any number of images, as many at once as memory allows; masks and logits on the CPU."""
    parts = [look(model, part, gradients=gradients) for part in images.split(images_at_once(images.shape[-1]))]

    def joined(name: str) -> OrderedDict[str, Tensor]:
        maps = [getattr(part, name) for part in parts]
        return OrderedDict((module, torch.cat([each[module].cpu() for each in maps])) for module in maps[0])

    logits, targets = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("logits", "targets"))
    return Look(logits, targets, joined("masks"), joined("contributions"), OrderedDict(), OrderedDict())


def _look_exported(network: ExportedClassifier, images: Tensor, more: bool) -> Look:
    """Masks of an exported network, which has no gradients and no features to look at."""
    if more:
        raise UserError("an .onnx shows its masks' mean and channels; other readings need the PyTorch model")
    logits, masks = network.with_masks(images)
    return Look(logits, logits.argmax(dim=1), masks, OrderedDict(), OrderedDict(), OrderedDict())


def last_of_each_stage(names: list[str]) -> list[str]:
    """The last attention module of each stage, of names such as ``stages.0.1``."""
    return list({name.split(".")[1]: name for name in names}.values())


def check_channel(channel: int, masks: Mapping[str, Tensor]) -> None:
    """Raises UserError for a channel that no module has."""
    most = max(mask.shape[1] for mask in masks.values())
    if not 0 <= channel < most:
        raise UserError(f"channel must lie between 0 and {most - 1}, not {channel}")


def read(found: Look, reading: str | int = "mean") -> OrderedDict[str, Tensor]:
    """One map a module, name -> (B, h, w), by the reading's name or a channel number.

    Modules have different numbers of channels: those without the channel asked for are left out.

    Raises:
        UserError: an unknown reading or channel, or one that needs gradients which were not computed.
    """
    if isinstance(reading, int):
        check_channel(reading, found.masks)
        return OrderedDict((name, mask[:, reading]) for name, mask in found.masks.items() if reading < mask.shape[1])
    if READINGS.choice(reading).gradients and len(found.contributions) < len(found.masks):
        raise UserError(f"the reading {reading!r} needs gradients")
    reduce = READINGS.value(reading)
    return OrderedDict((name, reduce(mask, found.contributions.get(name))) for name, mask in found.masks.items())


def combined(maps: Mapping[str, Tensor], size: int) -> Tensor:
    """The modules' maps as one (B, size, size): positive parts, each scaled to sum 1, added up.

    A module whose map is nowhere positive adds nothing.
    """
    total: Tensor | None = None
    for each in maps.values():
        large = upsample(each.clamp(min=0), size, size)
        share = large / large.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        total = share if total is None else total + share
    if total is None:
        raise UserError("no attention modules, so no maps")
    return total
