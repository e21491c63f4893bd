"""From a mask of many channels to one map a module: what each reading means.

Let M (C, h, w) be a module's mask, y the logit of a class, and R = M * dy/dM the first-order share of that logit
which the mask makes: what y would lose, to first order, if M were 0 at that position of that channel.

- *mean*: the mean of M over channels. Class-independent; what people draw first.
- *excited*: the one channel whose R, summed over positions, is largest: the channel most excited by the class.
- *class*: the positive part of R summed over channels, where the mask speaks for the class.
- a channel number: that channel of M.

`combined` adds up the modules' maps. Only *class* answers "why this class"; the others show the mask itself.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .geometry import upsample
from .masks import plain_network, record_masks

READINGS = ("mean", "excited", "class")


@dataclass(frozen=True)
class Look:
    """One forward pass, and a backward one when asked for, over B images.

    Attributes:
        logits: (B, K) float32.
        targets: (B,) the class that ``response`` is about.
        masks: module name -> M (B, C, h, w), low to high level.
        response: module name -> R = M * dy/dM (B, C, h, w); empty without gradients.
        before, after: trunk output T and fused output H (B, C, h, w); empty unless asked for.
    """

    logits: Tensor
    targets: Tensor
    masks: OrderedDict[str, Tensor]
    response: OrderedDict[str, Tensor]
    before: OrderedDict[str, Tensor]
    after: OrderedDict[str, Tensor]

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
    training = network.training
    network.eval()
    try:
        with torch.set_grad_enabled(gradients), record_masks(network, features=features, attached=gradients) as found:
            logits = network(images.detach().requires_grad_(gradients))
            chosen = logits.argmax(dim=1) if targets is None else targets.to(logits.device)
            response: OrderedDict[str, Tensor] = OrderedDict()
            if gradients:
                score = logits.gather(1, chosen[:, None]).sum()
                for (name, mask), gradient in zip(
                    found.masks.items(), torch.autograd.grad(score, list(found.masks.values())), strict=True
                ):
                    response[name] = (mask * gradient).detach().float()
    finally:
        network.train(training)

    def plain(maps: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        return OrderedDict((name, tensor.detach().float()) for name, tensor in maps.items())

    return Look(logits.detach().float(), chosen, plain(found.masks), response, plain(found.before), plain(found.after))


def excited_channels(response: Tensor) -> Tensor:
    """(B, C, h, w) to (B,): the channel that makes most of the class's logit."""
    return response.sum(dim=(2, 3)).argmax(dim=1)


def channel_of(mask: Tensor, channels: Tensor) -> Tensor:
    """One channel an image: (B, C, h, w) and (B,) to (B, h, w)."""
    return mask[torch.arange(len(mask), device=mask.device), channels.to(mask.device)]


def check_channel(channel: int, masks: Mapping[str, Tensor]) -> None:
    """Raises ValueError for a channel that some module does not have."""
    most = min(mask.shape[1] for mask in masks.values())
    if not 0 <= channel < most:
        raise ValueError(f"channel must lie between 0 and {most - 1}, not {channel}")


def read(found: Look, reading: str | int = "mean") -> OrderedDict[str, Tensor]:
    """One map a module, name -> (B, h, w), by the reading's name or a channel number.

    Raises:
        ValueError: an unknown reading or channel, or one that needs gradients which were not computed.
    """
    if isinstance(reading, int):
        check_channel(reading, found.masks)
        return OrderedDict((name, mask[:, reading]) for name, mask in found.masks.items())
    if reading not in READINGS:
        raise ValueError(f"reading must be {', '.join(READINGS)} or a channel number, not {reading!r}")
    if reading == "mean":
        return OrderedDict((name, mask.mean(dim=1)) for name, mask in found.masks.items())
    if len(found.response) < len(found.masks):
        raise ValueError(f"the reading {reading!r} needs gradients")
    if reading == "excited":
        return OrderedDict(
            (name, channel_of(mask, excited_channels(found.response[name]))) for name, mask in found.masks.items()
        )
    return OrderedDict((name, response.sum(dim=1).clamp(min=0)) for name, response in found.response.items())


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
        raise ValueError("no attention modules, so no maps")
    return total
