"""A trunk that is frozen for the first epochs of a run."""

from torch import nn

from ..family.transfer import hold_trunk, trunk_parameters
from .config import RunConfig


def is_frozen(config: RunConfig, epoch: int) -> bool:
    """Whether the trunk does not learn in ``epoch``, counted from 0."""
    return config.freeze == "trunk" and (config.freeze_epochs is None or epoch < config.freeze_epochs)


def set_trunk(model: nn.Module, config: RunConfig, epoch: int, *, keep_gradients: bool) -> None:
    """Freeze the trunk for this epoch, or let it learn. Call it after ``train()``.

    ``keep_gradients`` computes them all the same, as DDP expects; `drop_gradients` then forgets them.
    """
    if config.freeze == "none":
        return
    frozen = is_frozen(config, epoch)
    if not keep_gradients:
        for parameter in trunk_parameters(model):
            parameter.requires_grad_(not frozen)
    if frozen:
        hold_trunk(model)


def drop_gradients(model: nn.Module, config: RunConfig, epoch: int) -> None:
    """Without a gradient the optimizer leaves a parameter as it is."""
    if is_frozen(config, epoch):
        for parameter in trunk_parameters(model):
            parameter.grad = None
