"""One cell of the experiment: the trunk trained, its network fine-tuned and measured."""

from dataclasses import replace
from pathlib import Path

import torch

from residual_attention.family.staged import StagedNetwork

from .cells import FROM_SCRATCH, WITH_MASKS, WITHOUT_MASKS, Cell, Result, Setting
from .images import Halves, Images
from .mosaics import localisation
from .networks import NETWORKS, network_of, pretrained
from .timed import agreement_pct, error_pct, optimizer_of, trained

HELD_OUT = 100  # training images a class that `--validate` measures on


def _same_at_start_pct(
    model: StagedNetwork, cell: Cell, weights: Path, setting: Setting, test: Images, device: torch.device
) -> float | None:
    """How often the trunk gives the same class with untrained masks as without; None for a network without masks."""
    if cell.arm != WITH_MASKS:
        return None
    plain = network_of(replace(cell, arm=WITHOUT_MASKS), weights, setting).to(device)
    return agreement_pct(model, plain, test)


def run_cell(cell: Cell, halves: Halves, setting: Setting, folder: Path, device: torch.device) -> Result:
    """Train the trunk unless ``folder`` has it, then the cell's network; measure it."""
    weights, before = pretrained(cell.network, cell.seed, halves.first, setting, folder, device)
    model = network_of(cell, weights, setting).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    same = _same_at_start_pct(model, cell, weights, setting, halves.first.test, device)
    model.reset_classifier(setting.classes)  # the file's classifier is for the first half's classes
    model.to(device)
    scratch = cell.arm == FROM_SCRATCH
    lr = NETWORKS[cell.network] if scratch else setting.finetune_lr
    decay = None if scratch else setting.layer_decay
    learnt, judged = halves.second.train, halves.second.test
    data = learnt.each(cell.images_per_class, cell.seed)
    if setting.validate:
        judged = learnt.last_of_each(HELD_OUT, cell.seed)
    optimizer = optimizer_of(model, lr, layer_decay=decay, mask_lr=setting.mask_lr)
    length = trained(model, optimizer, data, setting.batch_size, lr=lr, minutes=setting.minutes, seed=cell.seed)
    return Result(
        cell=cell,
        error_pct=error_pct(model, judged),
        pretrained_error_pct=before,
        same_top1_at_start_pct=same,
        length=length,
        parameters=sum(p.numel() for p in model.parameters()),
        localisation=localisation(model, judged, setting.mosaics),
    )
