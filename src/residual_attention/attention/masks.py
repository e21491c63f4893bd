"""Records attention masks with hooks, so ``forward`` stays tensor to tensor."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..checkpoints.exported import ExportedClassifier, masks_among
from ..errors import UserError
from ..family import AttentionModule
from ..family.choices import signed_masks
from ..family.modes import evaluating
from ..plugins import require


@dataclass
class Recording:
    """Tensors of the last forward pass, by module name (``stages.0.1``: second child of the first stage).

    ``masks`` M (B, C, h, w); with ``features=True`` also ``before``, the trunk's output T, and ``after``, the
    fused output H.
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
    """Every attention module that has a mask, by name, from low to high level."""
    found = ((name, m) for name, m in plain_network(model).named_modules() if isinstance(m, AttentionModule))
    return OrderedDict((name, module) for name, module in found if module.mask is not None)


def masks_are_signed(model: nn.Module) -> bool:
    """Whether masks lie in [-1, 1], as with the channel activation (paper, eq. 5), instead of [0, 1].

    For an exported network, its card decides. Raises UserError if the card names a plugin that is not loaded.
    """
    network = plain_network(model)
    if isinstance(network, ExportedClassifier):
        require(network.card.plugins)
        return signed_masks(network.card.overrides)
    return any(module.masks_are_signed for module in attention_modules(network).values())


@contextmanager
def record_masks(model: nn.Module, *, features: bool = False, attached: bool = False) -> Iterator[Recording]:
    """A context manager: each forward pass of ``model`` inside it stores its masks in the `Recording`.

    With ``attached``, masks stay in the autograd graph, so that you can take gradients with respect to them.
    Hooks are removed at the end, even after an exception. They are set on the model itself: use it from one thread at
    a time, since any other forward pass in the context is recorded too. A compiled wrapper does not run hooks that are
    set later: call the network inside it (`plain_network`).

    This also works with an ``.onnx`` file exported with its masks. Raises UserError for one without.
    """
    recording = Recording()
    if isinstance(network := plain_network(model), ExportedClassifier):
        with _recorded_outputs(network, recording, more=features or attached):
            yield recording
        return
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


@contextmanager
def _recorded_outputs(network: ExportedClassifier, recording: Recording, *, more: bool) -> Iterator[None]:
    if more:
        raise UserError("an .onnx file gives only its masks, not features or gradients; use the PyTorch model")
    network.require_masks()

    def keep(outputs: OrderedDict[str, Tensor]) -> None:
        recording.masks = masks_among(outputs)

    network.listeners.append(keep)
    try:
        yield
    finally:
        network.listeners.remove(keep)


@torch.no_grad()
def attention_masks(model: nn.Module, images: Tensor) -> OrderedDict[str, Tensor]:
    """The masks of preprocessed ``images`` (B, C, H, W): module name -> (B, C, h, w), float32.

    The network runs in eval mode, and its mode is restored. To get predictions and masks from one pass, use
    `record_masks` around the call. `masks_are_signed` gives their range (paper, eq. 4 to 6).
    """
    network = plain_network(model)
    if isinstance(network, ExportedClassifier):
        return network.with_masks(images)[1]
    with evaluating(network), record_masks(network) as recording:
        network(images)
    return OrderedDict((name, mask.float()) for name, mask in recording.masks.items())
