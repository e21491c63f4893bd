"""The evidence for a class inside a region, as a quantity that training can raise.

In each attention module the evidence at position i is E_i = max(0, sum_c M_ic * dy/dM_ic), the reading *class*, with y
the logit of the image's class. Its share inside the region, sum_i E_i w_i / sum_i E_i with w_i the part of position i
that the region covers, is the energy that `localisation.energy_in_box` measures. As a loss it asks for no shape inside
the region (Rao et al., "Studying How to Efficiently and Effectively Guide Models with Explanations", ICCV 2023).

Its gradient differentiates the backward pass, so the images are run through the network once more: in eval mode, as for
any map that is shown, so that the batch norm's statistics are not those of the few guided images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..family.modes import evaluating
from .masks import plain_network, record_masks


def energy_inside(network: nn.Module, images: Tensor, labels: Tensor, regions: Tensor) -> Tensor:
    """The mean over modules of the evidence's share inside, (B,) in [0, 1], in the autograd graph.

    ``images`` (B, C, S, S) normalised, ``labels`` (B,), ``regions`` (B, S, S) in [0, 1]. A module without positive
    evidence counts as 0. Raises UserError for a network without masks.
    """
    with evaluating(network), torch.enable_grad(), record_masks(network, attached=True) as found:
        logits = network(images)
        masks = list(found.masks.values())
        if not masks:
            raise UserError("--guide needs masks; this network was built with learning=plain")
        slopes = torch.autograd.grad(logits.float().gather(1, labels[:, None]).sum(), masks, create_graph=True)
    shares = []
    for mask, slope in zip(masks, slopes, strict=True):
        evidence = (mask * slope).float().sum(dim=1).clamp(min=0)  # (B, h, w)
        inside = F.adaptive_avg_pool2d(regions[:, None].float(), (evidence.shape[1], evidence.shape[2]))[:, 0]
        total = evidence.sum(dim=(1, 2))
        shares.append((evidence * inside).sum(dim=(1, 2)) / total.clamp(min=torch.finfo(total.dtype).tiny))
    return torch.stack(shares).mean(dim=0)


def guided_energy(
    model: nn.Module, images: Tensor, labels: Tensor, regions: Tensor, *, dtype: torch.dtype, at_most: int
) -> tuple[Tensor, Tensor]:
    """The sum of `energy_inside` over the first ``at_most`` images with a region, and their number; 0 and 0 if none.

    fp16 would lose small slopes: such a run guides in fp32.
    """
    chosen = regions.flatten(1).any(dim=1).nonzero()[:at_most, 0]
    count = torch.tensor(float(len(chosen)), device=images.device)
    if not len(chosen):
        return torch.zeros((), device=images.device), count
    given = images[chosen].contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, dtype, enabled=dtype == torch.bfloat16):
        inside = energy_inside(plain_network(model), given, labels[chosen], regions[chosen])
    return inside.sum(), count
