"""Does a map depend on what it should depend on? Two sanity checks; for both, a low rank correlation is good.

*Class sensitivity*: the map of the most probable class against that of the second. A map that answers "why this class"
differs between them. *Weight randomisation* (Adebayo et al., NeurIPS 2018): the map against those of the network whose
weights are replaced by random ones, from the classifier down, in a cascade. A map that stays has not read them.
"""

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torchmetrics.functional import spearman_corrcoef

from ..data.randomness import derive_seed
from ..family.staged import StagedNetwork

Maps = Mapping[str, Tensor]  # method -> (B, S, S)


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's, (B,) in [-1, 1], between maps (B, H, W) over their pixels; 0 if a map is constant or not finite."""
    flat = [each.detach().cpu().flatten(1).float().nan_to_num() for each in (one, other)]
    varied = [(each.amax(dim=1) > each.amin(dim=1)) for each in flat]
    good = varied[0] & varied[1]
    found = torch.zeros(len(one))
    if good.any():
        pairs = (each[good].T.squeeze(1) for each in flat)  # (pixels, B), or (pixels,) of one image
        found[good] = spearman_corrcoef(*pairs)
    return found


def _levels(model: StagedNetwork) -> list[list[nn.Module]]:
    """The network's parts from the classifier down to the stem, as they are randomised."""
    return [[model.head], [model.norm, model.final], *([stage] for stage in reversed(model.stages)), [model.stem]]


def randomised(model: StagedNetwork, seed: int) -> Iterator[StagedNetwork]:
    """Yield a copy of the network with one more level of random weights each time, until all are random."""
    changed = copy.deepcopy(model)
    for number, level in enumerate(_levels(changed)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "randomised", number))
            for part in level:
                for module in part.modules():
                    if callable(reset := getattr(module, "reset_parameters", None)):
                        reset()
        yield changed


def weight_dependence(
    model: StagedNetwork, maps_of: Callable[[StagedNetwork], Maps], unchanged: Maps, seed: int
) -> dict[str, Tensor]:
    """Rank correlation (B,) of each method's ``unchanged`` maps with `randomised` networks' maps, mean over levels."""
    found: dict[str, list[Tensor]] = {name: [] for name in unchanged}
    for network in randomised(model, seed):
        for name, heat in maps_of(network).items():
            found[name].append(rank_correlation(unchanged[name], heat))
    return {name: torch.stack(values).mean(dim=0) for name, values in found.items()}
