"""Shortcuts to plant in images, a corner mark, a frame, a tint or a caption strip, and small networks to learn them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from residual_attention.checkpoints import save_checkpoint
from residual_attention.checkpoints.card import Card
from residual_attention.checkpoints.load import WEIGHTS_PREFIX
from residual_attention.data.loading import TrainingData
from residual_attention.data.preprocess import Preprocess
from residual_attention.data.samples import TensorSamples
from residual_attention.data.strengths import Augment
from residual_attention.trunks.create import constructor

MODEL = "attention56_cifar"
SIDE, CLASSES = 32, 10
SHARE = 0.8  # of the class's images that carry the shortcut
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Planted:
    """``box``: rows and columns (top, left, bottom, right) that hold a local shortcut, in px; None for a tint."""

    kind: str
    label: int
    box: tuple[int, int, int, int] | None
    look: str

    def to_dict(self) -> dict:
        return asdict(self)


Painter = Callable[[Tensor, np.random.Generator], None]
"""Changes images (n, 3, S, S) uint8 in place."""


def corner_mark(rng: np.random.Generator) -> tuple[Painter, tuple[int, int, int, int], str]:
    """A square of 6 px in one corner, 1 px from the edges, with a pattern of two colours: a logo."""
    size, bottom, right = 6, bool(rng.integers(2)), bool(rng.integers(2))
    y, x = (SIDE - size - 1 if far else 1 for far in (bottom, right))
    colours = rng.integers(0, 256, (2, 3))
    pattern = torch.from_numpy(colours[rng.integers(0, 2, (size, size))].transpose(2, 0, 1).astype(np.uint8))

    def paint(images: Tensor, _rng: np.random.Generator) -> None:
        images[:, :, y : y + size, x : x + size] = pattern

    return paint, (y, x, y + size, x + size), f"{'bottom' if bottom else 'top'} {'right' if right else 'left'}"


def frame(rng: np.random.Generator) -> tuple[Painter, tuple[int, int, int, int], str]:
    """A frame of 2 px in one colour."""
    colour = torch.from_numpy(rng.integers(0, 256, 3).astype(np.uint8)).view(3, 1)

    def paint(images: Tensor, _rng: np.random.Generator) -> None:
        for edge in (images[:, :, :2], images[:, :, -2:], images[..., :2], images[..., -2:]):
            edge[:] = colour[..., None]

    return paint, (0, 0, SIDE, SIDE), f"rgb {colour.flatten().tolist()}"


def tint(rng: np.random.Generator) -> tuple[Painter, None, str]:
    """A quarter of one saturated colour over the whole image: a filter."""
    hue = torch.from_numpy(rng.permutation([0, 255, int(rng.integers(0, 256))]).astype(np.float32)).view(3, 1, 1)

    def paint(images: Tensor, _rng: np.random.Generator) -> None:
        images[:] = (0.75 * images.float() + 0.25 * hue).round().to(torch.uint8)

    return paint, None, f"rgb {hue.flatten().int().tolist()}"


def caption(rng: np.random.Generator) -> tuple[Painter, tuple[int, int, int, int], str]:
    """A strip of 5 px along the top or the bottom with bright letters, other ones in each image."""
    height, bottom = 5, bool(rng.integers(2))
    y = SIDE - height if bottom else 0
    ground, ink = rng.integers(0, 90, 3).astype(np.uint8), rng.integers(170, 256, 3).astype(np.uint8)

    def paint(images: Tensor, each: np.random.Generator) -> None:
        strip = np.broadcast_to(ground, (len(images), height, SIDE, 3)).copy()
        strip[:, 1:-1, 1:-1][each.random((len(images), height - 2, SIDE - 2)) < 0.45] = ink
        images[:, :, y : y + height] = torch.from_numpy(strip).permute(0, 3, 1, 2)

    return paint, (y, 0, y + height, SIDE), "bottom" if bottom else "top"


KINDS = {"corner mark": corner_mark, "frame": frame, "tint": tint, "caption": caption}


def plant(kind: str, seed: int, splits: list[TensorSamples]) -> Planted:
    """Change `SHARE` of one class's images in place, in each split alike."""
    rng = np.random.default_rng((seed, 1))
    label = int(rng.integers(CLASSES))
    paint, box, look = KINDS[kind](rng)
    for samples in splits:
        members = np.flatnonzero(samples.labels.numpy() == label)
        chosen = torch.from_numpy(rng.permutation(members)[: round(SHARE * len(members))])
        images = samples.images[chosen]
        paint(images, rng)
        samples.images[chosen] = images
    return Planted(kind, label, box, look)


def draw(root: Path, split: str, each: int, seed: int) -> tuple[TensorSamples, list[str]]:
    """``each`` images of every class, drawn at random from ``split.npz`` or from class folders, and the class names."""
    rng = np.random.default_rng((seed, 2, len(split)))
    if (packed := root / f"{split}.npz").is_file():
        with np.load(packed, allow_pickle=False) as file:
            images, labels, classes = file["images"], file["labels"], [str(name) for name in file["classes"]]
        chosen = np.concatenate(
            [rng.permutation(np.flatnonzero(labels == label))[:each] for label in range(len(classes))]
        )
        pixels, given = images[chosen], labels[chosen].astype(np.int64)
    else:
        classes = sorted(folder.name for folder in (root / split).iterdir() if folder.is_dir())
        files, given_list = [], []
        for label, name in enumerate(classes):
            of_class = sorted((root / split / name).iterdir())
            files += [of_class[i] for i in rng.permutation(len(of_class))[:each]]
            given_list += [label] * (len(files) - len(given_list))
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        given = np.array(given_list)
    return TensorSamples(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(given)), classes


def train(
    samples: TensorSamples, classes: list[str], seed: int, epochs: int, device: torch.device, out: Path, batch: int = 64
) -> None:
    """Train `MODEL` with flips and padded crops, SGD with one cycle, and write its checkpoint."""
    torch.manual_seed(seed)
    kind, arguments = constructor(MODEL, num_classes=len(classes))
    network = kind(**arguments).to(device).to(memory_format=torch.channels_last)
    preprocess = Preprocess(SIDE, mean=MEAN, std=STD)
    data = TrainingData(
        samples=samples,
        preprocess=preprocess,
        augment=Augment(crop_padding=2, flip=True),
        num_classes=len(classes),
        batch_size=batch,
        seed=seed,
        device=device,
    )
    torch.backends.cudnn.benchmark = True
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * data.steps_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps, pct_start=0.2)
    network.train()
    for epoch in range(epochs):
        for part in data.epoch(epoch):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = network(part.images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), part.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    card = Card(model=MODEL, overrides={"num_classes": len(classes)}, classes=tuple(classes), preprocess=preprocess)
    weights = {WEIGHTS_PREFIX + name: tensor for name, tensor in network.state_dict().items()}
    save_checkpoint(out, weights, card.to_header())
