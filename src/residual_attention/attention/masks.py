"""Recording attention masks by hooks, so that ``forward`` stays tensor to tensor."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..checkpoints.exported import ExportedClassifier
from ..family import AttentionModule
from ..family.choices import signed_masks
from ..family.modes import evaluating
from ..plugins import require


@dataclass
class Recording:
    """What the last forward pass left, by module name (``stages.0.1``: second child of the first stage).

    ``masks`` M (B, C, h, w); with ``features=True`` also ``before``, the trunk's output T, and ``after``, the
    fused H that the mask made of it.
    """

    masks: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)
    before: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)
    after: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)


def plain_network(model: nn.Module) -> nn.Module:
    """The network inside torch.compile's or DistributedDataParallel's wrapper."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module) or isinstance(
            inner := getattr(model, "module", None), nn.Module
        ):
            model = inner
        else:
            return model


def attention_modules(model: nn.Module) -> OrderedDict[str, AttentionModule]:
    """Every attention module that has a mask, by its name, from low to high level."""
    found = ((name, m) for name, m in plain_network(model).named_modules() if isinstance(m, AttentionModule))
    return OrderedDict((name, module) for name, module in found if module.mask is not None)


def masks_are_signed(model: nn.Module) -> bool:
    """Whether masks lie in [-1, 1] about 0, as those of the channel activation do (paper, eq. 5), not in [0, 1].

    Of an exported network the card tells. Raises UserError when that names a plugin that is not here.
    """
    network = plain_network(model)
    if isinstance(network, ExportedClassifier):
        require(network.card.plugins)
        return signed_masks(network.card.overrides)
    return any(module.masks_are_signed for module in attention_modules(network).values())


@contextmanager
def record_masks(model: nn.Module, *, features: bool = False, attached: bool = False) -> Iterator[Recording]:
    """A context in which each forward pass of ``model`` leaves its masks in the `Recording`.

    With ``attached`` they stay in the autograd graph, so that gradients can be taken with respect to them.
    Hooks are removed at the end, also after an exception. They hang on the model: one thread at a time, and no forward
    pass of another's images meanwhile, or their masks are recorded. A compiled wrapper does not run hooks set later:
    call the network inside it (`plain_network`).
    """
    recording = Recording()
    handles = []

    def kept(tensor: Tensor) -> Tensor:
        return tensor if attached else tensor.detach()

    def keep(into: OrderedDict[str, Tensor], name: str):
        return lambda _module, _inputs, output: into.__setitem__(name, kept(output))

    def keep_input(name: str):
        return lambda _module, inputs: recording.after.__setitem__(name, kept(inputs[0]))

    try:
        for name, module in attention_modules(model).items():
            assert module.mask is not None
            handles.append(module.mask.register_forward_hook(keep(recording.masks, name)))
            if features:
                handles.append(module.trunk.register_forward_hook(keep(recording.before, name)))
                handles.append(module.post.register_forward_pre_hook(keep_input(name)))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_masks(model: nn.Module, images: Tensor) -> OrderedDict[str, Tensor]:
    """The masks of preprocessed ``images`` (B, C, H, W): module name -> (B, C, h, w), float32.

    The network is read in eval mode and left as it was. To have predictions and masks of one pass, use
    `record_masks` around the call. `masks_are_signed` tells their range (paper, eq. 4 to 6).
    """
    network = plain_network(model)
    if isinstance(network, ExportedClassifier):
        return network.with_masks(images)[1]
    with evaluating(network), record_masks(network) as recording:
        network(images)
    return OrderedDict((name, mask.float()) for name, mask in recording.masks.items())
