"""Takes a network apart into a chain of modules, each of which reads the previous one's output.

One forward pass on the meta device shows which module read what. No module's code is read and no family is named, so
any network whose ``forward_features`` calls its parts one after the other can be taken apart.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


@dataclass(frozen=True)
class Link:
    """One module of the chain.

    Attributes:
        path: its name in the network.
        chs, size: channels and height of its output.
        branching: it is, or contains, more than a chain of layers: a residual, dense or Inception block.
        is_block: branching, or several convolutions in a row that are not an ``nn.Sequential``.
        has_convolution: it is or contains a convolution.
        has_many: it contains several branching modules of one class, as a dense block does.
    """

    path: str
    chs: int
    size: int
    branching: bool
    is_block: bool
    has_convolution: bool
    has_many: bool


class NotAChainError(UserError):
    """The network does not run its parts one after the other, or not on feature maps."""


@dataclass(eq=False)
class _Call:
    """A module's call while it is traced. A tensor is known by the object and how often it was changed in place."""

    path: str
    module: nn.Module | None
    given: tuple[Tensor, int] | None = None
    made: tuple[Tensor, int] | None = None
    inside: list["_Call"] = field(default_factory=list)

    @property
    def is_chain(self) -> bool:
        """Whether the output is what the modules inside make of the input, one after the other."""
        if not self.inside or self.given is None or self.made is None:
            return False
        before = self.given
        for call in self.inside:
            if call.given is None or call.made is None or not _same(call.given, before):
                return False
            before = call.made
        return _same(before, self.made)


def _same(one: tuple[Tensor, int], other: tuple[Tensor, int]) -> bool:
    return one[0] is other[0] and one[1] == other[1]


def _single(value: Any) -> tuple[Tensor, int] | None:
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return (value, value._version) if isinstance(value, Tensor) else None


@torch.no_grad()
def _traced(model: nn.Module, images: Tensor) -> _Call:
    """``model.forward_features(images)`` as a call, with all calls inside it."""
    root = _Call("", None, _single(images))
    stack, handles = [root], []

    def before(path: str):
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = _Call(path, module, None if kwargs else _single(args))
            stack[-1].inside.append(call)
            stack.append(call)

        return enter

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        stack.pop().made = _single(output)

    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(after))
    try:
        root.made = _single(model.forward_features(images))  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return root


def chain_of(model: nn.Module, image_size: int, in_chans: int = 3) -> list[Link]:
    """The chain of ``model``, a network from timm in eval mode on the meta device.

    A stage or an ``nn.Sequential`` is replaced by what it contains; a block stays whole.

    Raises:
        NotAChainError: what stands between its parts is more than passing a feature map on.
    """
    root = _traced(model, torch.empty(1, in_chans, image_size, image_size, device="meta"))
    if root.made is None or root.made[0].ndim != 4:
        raise NotAChainError("its features are not maps (B, C, H, W)")
    if not root.is_chain:
        raise NotAChainError("its parts do not run one after the other")
    calls = _flattened(root)
    paths = [call.path for call in calls]
    if len(set(paths)) < len(paths):
        raise NotAChainError("it runs a part twice")
    links = [_link(call) for call in calls]
    if any(call.made is None or call.made[0].ndim != 4 for call in calls):
        raise NotAChainError("its features are not maps (B, C, H, W)")
    return links


def _flattened(call: _Call, at_start: bool = True) -> list[_Call]:
    found: list[_Call] = []
    for each in call.inside:
        first = at_start and not found
        found += _flattened(each, first) if _is_container(each, first) else [each]
    return found


def _is_container(call: _Call, first: bool) -> bool:
    """Whether a module is a sequence of blocks: ``nn.Sequential``, or named a stage.

    A sequence of plain layers is one unit (a transition), unless it is the stem or passes through three sizes or more:
    VGG's layers are all in one sequence.
    """
    named = "stage" in type(call.module).__name__.lower()
    if not call.is_chain or not (isinstance(call.module, nn.Sequential) or named):
        return False
    if first or any(_convolutions(each.module) and each.inside for each in call.inside):
        return True
    return len({each.made[0].shape[-1] for each in call.inside if each.made is not None}) > 2


def _convolutions(module: nn.Module | None) -> int:
    assert module is not None
    return sum(isinstance(m, nn.Conv2d) for m in module.modules())


def _branches(call: _Call) -> bool:
    return bool(call.inside) and _convolutions(call.module) > 0 and not call.is_chain


def _contains_branch(call: _Call) -> bool:
    return _branches(call) or any(_contains_branch(each) for each in call.inside)


def _link(call: _Call) -> Link:
    assert call.made is not None
    shape = call.made[0].shape
    count, branching = _convolutions(call.module), _contains_branch(call)
    kinds = [type(each.module) for each in call.inside if _branches(each)]
    return Link(
        path=call.path,
        chs=shape[1],
        size=shape[-2] if len(shape) == 4 else 0,
        branching=branching,
        is_block=branching or (count > 1 and bool(call.inside) and not isinstance(call.module, nn.Sequential)),
        has_convolution=count > 0,
        has_many=len(kinds) > len(set(kinds)),
    )
