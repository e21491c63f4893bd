"""Which part of a network is its trunk, and freezing it."""

from collections.abc import Iterator

from torch import nn

from .attention import AttentionModule
from .staged import StagedNetwork


def trunk_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Every module of the networks in ``model``, except their masks and classifiers."""
    for network in model.modules():
        if isinstance(network, StagedNetwork):
            learned = {id(part) for part in network.get_classifier().modules()}
            for module in network.modules():
                if isinstance(module, AttentionModule) and module.mask is not None:
                    learned |= {id(part) for part in module.mask.modules()}
            yield from (module for module in network.modules() if id(module) not in learned)


def trunk_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of `trunk_modules`."""
    return [parameter for module in trunk_modules(model) for parameter in module.parameters(recurse=False)]


def hold_trunk(model: nn.Module) -> None:
    """Put the trunk's normalisation and dropout in eval mode until the model's mode is set again.

    A trunk that does not learn computes what it did when it was trained.
    """
    for module in trunk_modules(model):
        if not any(True for _ in module.children()):
            module.eval()
