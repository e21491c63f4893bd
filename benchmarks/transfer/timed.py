"""Training for a number of minutes, and the error afterwards."""

import math
import time

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import nn

from residual_attention.devices import DTYPES, resolve_precision
from residual_attention.training.graphs import GraphedForward

from .cells import Length
from .images import Images, batches

WARM_STEPS = 3
SYNCHRONISED = 5  # steps: the host never runs further ahead of a GPU


def optimizer_of(
    model: nn.Module, lr: float, *, layer_decay: float | None = None, mask_lr: float = 1.0
) -> torch.optim.Optimizer:
    """SGD with timm's layer decay; ``mask_lr`` multiplies the masks' rate."""
    optimizer = create_optimizer_v2(model, opt="sgd", lr=lr, weight_decay=5e-4, momentum=0.9, layer_decay=layer_decay)
    masks = {id(p) for name, p in model.named_parameters() if ".mask." in name}
    for group in list(optimizer.param_groups):
        mine = [p for p in group["params"] if id(p) in masks]
        if mine and mask_lr != 1.0:
            group["params"] = [p for p in group["params"] if id(p) not in masks]
            rest = {k: v for k, v in group.items() if k != "params"}
            optimizer.add_param_group({**rest, "params": mine, "lr_scale": group.get("lr_scale", 1.0) * mask_lr})
    return optimizer


def scheduled(lr: float, share: float) -> float:
    """The rate after a ``share`` of the time: warm-up, then a cosine to 0."""
    return lr * min(1.0, share / 0.05 + 0.01) * 0.5 * (1 + math.cos(math.pi * share))


def trained(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Images,
    batch_size: int,
    *,
    lr: float,
    minutes: float,
    seed: int,
) -> Length:
    """Train for ``minutes`` of training time. The rate follows the share of the time, so that every arm ends at 0.

    On a CPU the minutes are those of one core, so that other work on the machine favours no arm.
    """
    device = next(model.parameters()).device
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    dtype = DTYPES[resolve_precision("auto", device)]
    forward = GraphedForward(model, dtype) if device.type == "cuda" else model
    source = batches(data, batch_size, seed, device)
    forward.train()
    steps, spent, budget = 0, 0.0, 60 * minutes
    started = clock()
    while spent < budget:
        rate = scheduled(lr, spent / budget)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        images, labels = next(source)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = forward(images.contiguous(memory_format=torch.channels_last))
        F.cross_entropy(logits.float(), labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
        if device.type == "cuda" and steps % SYNCHRONISED == 0:
            torch.cuda.synchronize()
        if steps == WARM_STEPS:  # the first steps allocate, or record
            started = clock()
        spent = clock() - started if steps > WARM_STEPS else 0.0
    return Length(steps=steps, train_time_s=spent, epochs=steps * batch_size / len(data.labels))


@torch.inference_mode()
def error_pct(model: nn.Module, data: Images) -> float:
    device = next(model.parameters()).device
    model.eval()
    wrong = 0
    for images, labels in zip(data.images.split(250), data.labels.split(250), strict=True):
        wrong += int((model(data.normalized(images.to(device))).argmax(1).cpu() != labels).sum())
    return 100 * wrong / len(data.labels)


@torch.inference_mode()
def agreement_pct(one: nn.Module, other: nn.Module, data: Images, count: int = 1000) -> float:
    """The share of ``count`` images to which both give the same class."""
    device = next(one.parameters()).device
    images = data.images[torch.linspace(0, len(data.labels) - 1, min(count, len(data.labels))).long()]
    tops = [
        torch.cat([model.eval()(data.normalized(part.to(device))).argmax(1) for part in images.split(250)])
        for model in (one, other)
    ]
    return 100 * (tops[0] == tops[1]).double().mean().item()
