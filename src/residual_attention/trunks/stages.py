"""Where a chain's stages are, and which part of each is x and which is T."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log2

from .chain import Link

LEAST_REDUCTION = 4  # as in the paper's ImageNet networks: attention starts at a quarter of the image's side,
SMALL_MAP = 16  # or, in networks for small images, at any map of at most this size


@dataclass(frozen=True)
class Stage:
    """The links of one resolution.

    ``before`` ends with x, ``trunk`` is T, ``after`` follows the fusion. ``trunk`` is empty in a stage without
    attention. ``size`` is the side of the map that x and T share, ``reduction`` the image's side divided by it, rounded
    to a power of two.
    """

    before: tuple[Link, ...]
    trunk: tuple[Link, ...]
    after: tuple[Link, ...]
    reduction: int

    @property
    def links(self) -> tuple[Link, ...]:
        return (*self.before, *self.trunk, *self.after)

    @property
    def size(self) -> int:
        return self.links[-1].size

    @property
    def in_chs(self) -> int:
        """Channels of x."""
        return self.before[-1].chs

    @property
    def out_chs(self) -> int:
        """Channels of T, and of M."""
        return self.trunk[-1].chs


@dataclass(frozen=True)
class Layout:
    """A chain in parts: ``stem`` (stages without attention, before the first with), ``stages``, ``final`` layers."""

    stem: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    final: tuple[Link, ...]

    @property
    def with_attention(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.trunk)


def layout_of(links: Sequence[Link], image_size: int) -> Layout:
    """Group a chain by resolution and split each group; ``stages`` is empty if no group can hold attention."""
    branching = any(link.branching for link in links)
    parts = [list(part) for _, part in groupby(links, lambda link: _reduction(link, image_size))]
    last, final = _without_tail(parts[-1], branching)
    if last:
        parts[-1] = last
    else:
        parts.pop()
    stages = [_split(part, _reduction(part[0], image_size), branching) for part in parts]
    first = next((i for i, stage in enumerate(stages) if stage.trunk), len(stages))
    return Layout(tuple(stages[:first]), tuple(stages[first:]), tuple(final))


def _reduction(link: Link, image_size: int) -> int:
    return 2 ** max(0, round(log2(image_size / link.size)))


def _is_block(link: Link, branching: bool) -> bool:
    """A plain network, such as VGG, has no blocks: each convolution counts as one."""
    return link.is_block if branching else link.has_convolution


def _without_tail(links: list[Link], branching: bool) -> tuple[list[Link], list[Link]]:
    """The last stage without the plain layers that follow its last block, and these layers."""
    if not branching:
        return links, []
    end = max((i + 1 for i, link in enumerate(links) if _is_block(link, True)), default=0)
    return links[:end], links[end:]


def _split(links: list[Link], reduction: int, branching: bool) -> Stage:
    whole = Stage(tuple(links), (), (), reduction)
    if reduction < LEAST_REDUCTION and links[-1].size > SMALL_MAP:
        return whole
    blocks = [i for i, link in enumerate(links) if _is_block(link, branching)]
    if len(blocks) > 1:
        start = blocks[1]
    elif blocks and blocks[0] > 0 and links[blocks[0]].has_many:  # a dense block after its transition
        start = blocks[0]
    else:
        return whole
    end = blocks[-1] + 1 if branching else len(links)
    while start < end and any(link.size != links[start - 1].size for link in links[start:end]):
        start += 1  # x and T are maps of one size
    trunk = links[start:end]
    if not any(link.branching or (not branching and link.has_convolution) for link in trunk):
        return whole
    return Stage(tuple(links[:start]), tuple(trunk), tuple(links[end:]), reduction)
