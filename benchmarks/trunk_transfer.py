"""What masks bring to a trained trunk: CIFAR-100's first 50 classes stand for its training, the other 50 are learned.

Two plain networks are trained on 50 classes. Each is then fine-tuned on 20, 100 and 500 images a class of the other 50
without masks and with masks, and trained from scratch, for equal minutes. Every cell is repeated over seeds; nothing is
selected on the test images. Localisation: the share of a map's positive part that lies on the right quarter of a 2x2
mosaic of test images of four classes (a grid pointing game), for the masks and for Grad-CAM.

    python benchmarks/trunk_transfer.py --data-dir DIR [--minutes 5] [--pretrain-minutes 30] [--seeds 3]
    python benchmarks/trunk_transfer.py --smoke --out /tmp/smoke.json   # seconds, on noise

A cell that is in the output file is not run again, so a stopped command goes on, and two commands (``--networks``) may
fill one file. ``--variant NAME`` with ``--mask-start``, ``--mask-width``, ``--mask-lr`` or ``--layer-decay`` adds cells
of other settings. Settings are chosen with ``--validate``, on training images that are held out.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.stats import t as student
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from record import add_cell, command_of, recorded_cells
from residual_attention import create_model
from residual_attention.attention.geometry import upsample
from residual_attention.attention.peers import grad_cam
from residual_attention.attention.readings import combined, look, read
from residual_attention.data.augment import flip_and_crop
from residual_attention.data.load import load_dataset
from residual_attention.data.request import DataRequest
from residual_attention.data.samples import TensorSamples
from residual_attention.data.strengths import Augment
from residual_attention.data.transfer import to_device
from residual_attention.devices import DTYPES, resolve_device, resolve_precision
from residual_attention.family.staged import StagedNetwork
from residual_attention.training.graphs import GraphedForward

IMAGES_PER_CLASS = (20, 100, 500)
ARMS = ("without masks", "with masks", "from scratch")
NETWORKS = {"plain56_cifar": 0.1, "resnet18_cifar": 0.05}  # and the peak rate of their training
FINETUNE_LR = 0.1  # chosen over 0.02 on training images that were held out, as `--validate` holds them out
HELD_OUT = 100  # training images a class that --validate measures on
CIFAR_IMAGES_PER_CLASS = 500
MOSAICS, MOSAICS_AT_ONCE = 100, 20
WARM_STEPS = 3
SYNCHRONISED = 5  # steps: the host never runs further ahead of a GPU

default_cfgs = generate_default_cfgs(
    {
        "plain56_cifar": {"input_size": (3, 32, 32), "classifier": "head.fc", "first_conv": "stem.0"},
        "resnet18_cifar": {"input_size": (3, 32, 32), "classifier": "fc", "first_conv": "conv1"},
    }
)


@register_model
def plain56_cifar(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Attention-56 for CIFAR with learning=plain: the paper's baseline."""

    def build(num_classes: int = 50, in_chans: int = 3, **_: Any) -> nn.Module:
        return create_model("attention56_cifar", num_classes, in_chans, learning="plain")

    return build_model_with_cfg(build, "plain56_cifar", pretrained, **arguments)  # type: ignore[arg-type]


@register_model
def resnet18_cifar(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """timm's ResNet-18 with a 3x3 stem of stride 1 and no pool, for 32 px."""

    def build(num_classes: int = 50, in_chans: int = 3, **_: Any) -> nn.Module:
        model = timm.create_model("resnet18", num_classes=num_classes)
        model.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        return model

    return build_model_with_cfg(build, "resnet18_cifar", pretrained, **arguments)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Images:
    """uint8 images (N, 3, S, S) and labels (N,) from 0."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def normalized(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean.to(images.device)) / self.std.to(images.device)

    def of_classes(self, first: int, count: int) -> "Images":
        taken = (self.labels >= first) & (self.labels < first + count)
        return Images(self.images[taken], self.labels[taken] - first, self.mean, self.std)

    def each(self, count: int, seed: int) -> "Images":
        """``count`` images a class, drawn by the seed."""
        return self._of_each_class(slice(count), seed)

    def last_of_each(self, count: int, seed: int) -> "Images":
        """The ``count`` images a class that `each` would draw last."""
        return self._of_each_class(slice(-count, None), seed)

    def _of_each_class(self, part: slice, seed: int) -> "Images":
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.labels), generator=generator)
        index = torch.cat([order[self.labels[order] == label][part] for label in self.labels.unique().tolist()])
        return Images(self.images[index], self.labels[index], self.mean, self.std)


@dataclass(frozen=True)
class Setting:
    """The size of the whole experiment, and the masks' settings of this variant."""

    classes: int  # in each half
    images_per_class: tuple[int, ...]
    minutes: float
    pretrain_minutes: float
    seeds: int
    batch_size: int
    networks: tuple[str, ...]
    mosaics: int
    arms: tuple[str, ...] = ARMS
    validate: bool = False
    finetune_lr: float = FINETUNE_LR
    variant: str = "default"
    mask_start: float | None = None
    mask_width: int | None = None
    layer_decay: float = 0.75
    mask_lr: float = 1.0


def cifar(data_dir: Path | None) -> tuple[Images, Images]:
    dataset = load_dataset(DataRequest(data="cifar100", data_dir=data_dir, val_fraction=0.0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (dataset.preprocess.mean, dataset.preprocess.std))
    parts = []
    for samples in (dataset.train, dataset.test):
        assert isinstance(samples, TensorSamples)
        parts.append(Images(samples.images, samples.labels, mean, std))
    return parts[0], parts[1]


def noise(classes: int) -> tuple[Images, Images]:
    """Coloured noise, for the smoke test: the brightness of each channel tells the class."""
    generator = torch.Generator().manual_seed(0)
    constant = torch.full((3, 1, 1), 0.5)

    def draw(each: int) -> Images:
        labels = torch.arange(2 * classes).repeat_interleave(each)
        images = torch.randint(0, 128, (len(labels), 3, 32, 32), generator=generator)
        shifts = torch.stack([(labels // 4**c) % 4 for c in range(3)], dim=1) * 40
        return Images((images + shifts[:, :, None, None]).clamp(max=255).byte(), labels, constant, constant)

    return draw(8), draw(4)


def batches(data: Images, size: int, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled batches on ``device``, normalised, with crop and flip."""
    rng = np.random.default_rng(seed)
    augment = Augment(crop_padding=4, flip=True)
    images, labels = data.images.to(device), data.labels.to(device)
    while True:
        order = torch.from_numpy(rng.permutation(len(labels)))
        for index in order.split(size):
            if len(index) < min(size, len(order)):
                continue
            chosen = to_device(index, device)
            yield flip_and_crop(data.normalized(images[chosen]), augment, rng), labels[chosen]


def optimizer_of(model: nn.Module, lr: float, layer_decay: float | None, mask_lr: float) -> torch.optim.Optimizer:
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


def trained(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Images,
    batch_size: int,
    *,
    lr: float,
    minutes: float,
    seed: int,
) -> dict[str, float]:
    """Train for ``minutes`` of training time. The cosine follows the share of the time, so that every arm ends at 0.

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
        share = spent / budget
        rate = lr * min(1.0, share / 0.05 + 0.01) * 0.5 * (1 + math.cos(math.pi * share))
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
    return {
        "steps": steps,
        "train_time_s": round(spent, 2),
        "epochs": round(steps * batch_size / len(data.labels), 2),
    }


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


def mosaics(data: Images, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised mosaics (1, 3, 2S, 2S) of four classes, and their labels (4,), row by row."""
    rng = np.random.default_rng(seed)
    classes = data.labels.unique().numpy()
    for _ in range(count):
        chosen = rng.choice(classes, 4, replace=False)
        index = [int(rng.choice(np.flatnonzero(data.labels.numpy() == label))) for label in chosen]
        tiles = data.normalized(data.images[index])
        rows = [torch.cat([tiles[0], tiles[1]], dim=2), torch.cat([tiles[2], tiles[3]], dim=2)]
        yield torch.cat(rows, dim=1)[None], torch.from_numpy(chosen)


def shares_on(maps: Tensor, quarters: Tensor) -> Tensor:
    """The share of each map's (B, S, S) positive part on its quarter (B,), counted row by row; (B,)."""
    positive = maps.clamp(min=0)
    half = positive.shape[-1] // 2
    by_quarter = positive.unflatten(1, (2, half)).unflatten(3, (2, half)).sum(dim=(2, 4)).flatten(1)  # (B, 4)
    total = by_quarter.sum(dim=1)
    share = by_quarter.gather(1, quarters[:, None])[:, 0] / total.clamp(min=1e-12)
    return torch.where(total > 0, share, 0.25)


def localisation(model: StagedNetwork, data: Images, count: int) -> dict[str, float]:
    """Mean share on the right quarter, by method; 0.25 is chance."""
    found: dict[str, list[Tensor]] = {}
    device = next(model.parameters()).device
    model.eval()
    drawn = list(mosaics(data, count, 0))
    for first in range(0, len(drawn), MOSAICS_AT_ONCE):
        some = drawn[first : first + MOSAICS_AT_ONCE]
        images = torch.cat([image for image, _ in some]).repeat_interleave(4, dim=0).to(device)
        targets = torch.cat([labels for _, labels in some]).to(device)
        quarters = torch.arange(4).repeat(len(some))
        maps = {"Grad-CAM": grad_cam(model, images, targets)}
        if any(".mask." in name for name, _ in model.named_parameters()):
            masks = read(look(model, images, targets=targets), "class")
            maps["masks, last stage"] = list(masks.values())[-1]
            maps["masks, combined"] = combined(masks, images.shape[-1])
        for name, each in maps.items():
            large = upsample(each.float(), images.shape[-1], images.shape[-1])
            found.setdefault(name, []).append(shares_on(large.detach().cpu(), quarters))
    return {name: round(torch.cat(values).mean().item(), 4) for name, values in found.items()}


def pretrained(
    network: str, seed: int, data: Images, test: Images, setting: Setting, folder: Path, device: torch.device
) -> tuple[Path, float]:
    """The file of a plain network trained on the first half of the classes, and its error there."""
    path = folder / f"{network}_{setting.classes}_{setting.pretrain_minutes:g}min_seed{seed}.safetensors"
    if not path.is_file():
        torch.manual_seed(seed)
        model = timm.create_model(network, num_classes=setting.classes).to(device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        lr = NETWORKS[network]
        optimizer = optimizer_of(model, lr, None, 1.0)
        trained(model, optimizer, data, setting.batch_size, lr=lr, minutes=setting.pretrain_minutes, seed=seed)
        folder.mkdir(parents=True, exist_ok=True)
        error = error_pct(model, test)
        save_file({k: v.cpu().contiguous() for k, v in model.state_dict().items()}, path, {"error_pct": str(error)})
    with safe_open(path, framework="pt") as file:
        return path, float(file.metadata()["error_pct"])


def network_for(arm: str, network: str, weights: Path, setting: Setting, seed: int) -> StagedNetwork:
    """The network of an arm. Without masks it is the trunk alone; from scratch it has no masks either."""
    torch.manual_seed(1000 + seed)
    masks: dict[str, Any] = {} if arm == "with masks" else {"learning": "plain"}
    if arm == "with masks":
        options = {"mask_start": setting.mask_start, "mask_widths": setting.mask_width}
        masks |= {key: value for key, value in options.items() if value is not None}
    start = False if arm == "from scratch" else weights
    return create_model("attention_trunk", setting.classes, trunk=network, pretrained=start, **masks)


def run_cell(
    cell: dict[str, Any], halves: dict[str, Images], setting: Setting, folder: Path, device: torch.device
) -> dict[str, Any]:
    weights, before = pretrained(
        cell["network"], cell["seed"], halves["train first"], halves["test first"], setting, folder, device
    )
    model = network_for(cell["arm"], cell["network"], weights, setting, cell["seed"]).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scratch = cell["arm"] == "from scratch"
    start = {}
    if cell["arm"] == "with masks":
        plain = network_for("without masks", cell["network"], weights, setting, cell["seed"]).to(device)
        start = {"same_top1_at_start_pct": round(agreement_pct(model, plain, halves["test first"]), 2)}
    model.reset_classifier(setting.classes)  # the file's classifier is for the first half's classes
    model.to(device)
    lr = NETWORKS[cell["network"]] if scratch else setting.finetune_lr
    decay = None if scratch else setting.layer_decay
    learnt, judged = halves["train second"], halves["test second"]
    data = learnt.each(cell["images_per_class"], cell["seed"])
    if setting.validate:
        judged = learnt.last_of_each(HELD_OUT, cell["seed"])
    optimizer = optimizer_of(model, lr, decay, setting.mask_lr)
    length = trained(model, optimizer, data, setting.batch_size, lr=lr, minutes=setting.minutes, seed=cell["seed"])
    return {
        **cell,
        "error_pct": round(error_pct(model, judged), 3),
        "pretrained_error_pct": round(before, 3),
        **start,
        **length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "localisation": localisation(model, judged, setting.mosaics),
    }


def cells_of(setting: Setting) -> Iterator[dict[str, Any]]:
    """Seeds are the outer loop: a stopped experiment has every arm equally often."""
    for seed in range(setting.seeds):
        for network in setting.networks:
            for count in setting.images_per_class:
                for arm in setting.arms:
                    yield {
                        "variant": setting.variant,
                        "network": network,
                        "images_per_class": count,
                        "arm": arm,
                        "seed": seed,
                    }


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With masks minus without, paired by seed, for every network and number of images; None where n < 2."""
    by_key = {(c["variant"], c["network"], c["images_per_class"], c["arm"], c["seed"]): c for c in cells}
    rows = []
    for variant, network, count in sorted({k[:3] for k in by_key if k[3] == "with masks"}):
        beside = variant if any(k[0] == variant and k[3] == "without masks" for k in by_key) else "default"
        seeds = sorted(k[4] for k in by_key if k[:4] == (variant, network, count, "with masks"))
        pairs = [
            (by_key[variant, network, count, "with masks", s], by_key[beside, network, count, "without masks", s])
            for s in seeds
            if (beside, network, count, "without masks", s) in by_key
        ]
        if not pairs:
            continue
        mean, low, high = interval([one["error_pct"] - other["error_pct"] for one, other in pairs])
        rows.append(
            {
                "variant": variant,
                "network": network,
                "images_per_class": count,
                "n": len(pairs),
                "with_masks_error_pct": round(statistics.mean(one["error_pct"] for one, _ in pairs), 3),
                "without_masks_error_pct": round(statistics.mean(other["error_pct"] for _, other in pairs), 3),
                "difference_points": round(mean, 3),
                "interval_95": None if math.isnan(low) else [round(low, 3), round(high, 3)],
            }
        )
    return rows


def identity(cell: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[key] for key in ("variant", "network", "images_per_class", "arm", "seed"))


def with_summary(setting: Setting, result: dict[str, Any]) -> dict[str, Any]:
    settings = {**result.get("settings", {}), f"{setting.variant}, {', '.join(setting.networks)}": asdict(setting)}
    return {"settings": settings, "summary": summary(result["cells"])}


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/trunk_transfer.json"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the trained trunks; runs/trunk_transfer by default")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, a cell")
    parser.add_argument("--pretrain-minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", nargs="+", type=int, default=list(IMAGES_PER_CLASS), help="images a class")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="all, or with masks alone for a variant")
    parser.add_argument("--validate", action="store_true", help="measure on training images that are held out")
    parser.add_argument("--finetune-lr", type=float, default=FINETUNE_LR)
    parser.add_argument("--variant", default="default")
    parser.add_argument("--mask-start", type=float)
    parser.add_argument("--mask-width", type=int)
    parser.add_argument("--layer-decay", type=float, default=0.75)
    parser.add_argument("--mask-lr", type=float, default=1.0)
    parser.add_argument("--smoke", action="store_true", help="four classes of noise, a second a cell")
    given = parser.parse_args(argv)
    if given.arms is None:
        given.arms = ARMS if given.variant == "default" else ("with masks",)
    if given.validate and given.variant == "default":
        parser.error("--validate measures another thing than the default's cells: give it a --variant of its own")
    if given.validate and max(given.images) > CIFAR_IMAGES_PER_CLASS - HELD_OUT:
        parser.error(f"--validate holds {HELD_OUT} images a class out: at most 400 --images")
    return given


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    given = parsed(argv)
    named = ("mask_start", "mask_width", "layer_decay", "mask_lr", "variant", "validate", "finetune_lr")
    masks: dict[str, Any] = {name: getattr(given, name) for name in named} | {"arms": tuple(given.arms)}
    if given.smoke:
        setting = Setting(4, (4,), 0.02, 0.02, 2, 8, ("plain56_cifar",), 2, **masks)
        train, test = noise(setting.classes)
    else:
        counts = (tuple(given.images), given.minutes, given.pretrain_minutes, given.seeds, given.batch_size)
        setting = Setting(50, *counts, tuple(given.networks), MOSAICS, **masks)
        train, test = cifar(given.data_dir)
    halves = {
        f"{split} {half}": data.of_classes(i * setting.classes, setting.classes)
        for split, data in (("train", train), ("test", test))
        for i, half in enumerate(("first", "second"))
    }
    device = resolve_device(given.device)
    folder = given.work or (given.out.parent if given.smoke else Path("runs")) / "trunk_transfer"
    command = command_of("trunk_transfer.py", sys.argv[1:] if argv is None else argv)
    for cell in cells_of(setting):
        if identity(cell) in {identity(one) for one in recorded_cells(given.out)}:
            continue
        last = run_cell(cell, halves, setting, folder, device)
        add_cell(given.out, last, command, partial(with_summary, setting), device)
        say(
            f"{last['network']} {last['images_per_class']} {last['arm']} seed {last['seed']}: {last['error_pct']:.2f} %"
        )


if __name__ == "__main__":
    main()
