"""One bit flipped, anywhere: a file is refused, or says the same as before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from residual_attention import create_model
from residual_attention.checkpoints.card import Card
from residual_attention.checkpoints.format import encode_checkpoint, read_checkpoint
from residual_attention.checkpoints.hub import read_hub, write_folder
from residual_attention.errors import UserError
from residual_attention.tasks import report

from . import small
from .parts import Tally, Task

FULL = 10_000
SMALL = {"num_classes": 3, "widths": [4, 4, 4], "mask_depths": [1, 1, 1], "final_width": 4, "t": 1}


def _model() -> tuple[dict[str, torch.Tensor], Card]:
    torch.manual_seed(0)
    weights = create_model("attention56_cifar", **SMALL).state_dict()
    header = {
        "model": "attention56_cifar",
        "overrides": SMALL,
        "classes": ["ant", "bee", "cat"],
        "preprocess": {"image_size": 32, "resize": "crop", "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.875},
        "config": {"data": "digits", "recipe": "quick", "epochs": 3, "seed": 7},
        "confidence": {"temperature": 1.25, "images": 100},
    }
    return weights, Card.from_header(header, "the model")


Meaning = tuple[dict[str, torch.Tensor], dict[str, Any]]


def _same(one: Meaning, other: Meaning) -> bool:
    if one[1] != other[1] or one[0].keys() != other[0].keys():
        return False
    return all(torch.equal(_bytes(one[0][key]), _bytes(other[0][key])) for key in one[0])


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _flip(path: Path, original: bytes, bit: int) -> None:
    content = bytearray(original)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _judge(tally: Tally, read: Callable[[], Meaning], original: Meaning, what: str) -> None:
    try:
        found = read()
    except UserError:
        tally.good("refused")
    except Exception as error:
        tally.bad(f"{what}: {type(error).__name__}: {error}")
    else:
        if _same(found, original):
            tally.good("same meaning")
        else:
            tally.bad(f"{what}: accepted with another meaning")


def flips(task: Task) -> dict[str, Tally]:
    """A third of the flips in a checkpoint's header, in the rest of it, and in a hub folder; then a run's files."""
    random = task.random
    weights, card = _model()
    path = task.folder / "model.safetensors"
    original = encode_checkpoint({f"model.{name}": value for name, value in weights.items()}, card.to_header())
    path.write_bytes(original)
    header_bits = 8 * (8 + int.from_bytes(original[:8], "little"))

    def checkpoint() -> Meaning:
        tensors, header = read_checkpoint(path)
        return tensors, Card.from_header(header, path).to_header()

    meaning = checkpoint()
    tallies = {"checkpoint header": Tally(), "checkpoint tensors": Tally()}
    for number in task.part(0.5, "checkpoint").numbers(2 * FULL // 3):
        inside = number % 2 == 0
        bit = random.randrange(header_bits) if inside else random.randrange(header_bits, 8 * len(original))
        _flip(path, original, bit)
        _judge(tallies["checkpoint header" if inside else "checkpoint tensors"], checkpoint, meaning, f"bit {bit}")
    return tallies | _hub(task.part(0.15, "hub"), weights, card) | _run_files(task.part(0.2, "run-files"))


def _hub(task: Task, weights: dict[str, torch.Tensor], card: Card) -> dict[str, Tally]:
    folder = task.folder
    write_folder(weights, card, folder)

    def hub() -> Meaning:
        tensors, found = read_hub(f"local-dir:{folder}")
        return tensors, found.to_header()

    meaning, random = hub(), task.random
    tallies = {}
    for name in ("config.json", "model.safetensors"):
        tally = tallies[f"hub folder {name}"] = Tally()
        original = (folder / name).read_bytes()
        for _ in task.part(0.5, f"flips of {name}").numbers(FULL // 6):
            bit = random.randrange(8 * len(original))
            _flip(folder / name, original, bit)
            _judge(tally, hub, meaning, f"bit {bit}")
        (folder / name).write_bytes(original)
    return tallies


def _run_files(task: Task) -> dict[str, Tally]:
    """These are text for people, rewritten from the checkpoint: a report is made of them, or one line says why not."""
    run, random = task.folder / "run", task.random
    small.undisturbed(small.thin(run), task.folder / "log", small.without_pictures)
    tally = Tally()
    for number in task.numbers(FULL // 20):
        path = run / ("summary.json", "config.yaml", "metrics.csv")[number % 3]
        original = path.read_bytes()
        _flip(path, original, bit := random.randrange(8 * len(original)))
        try:
            report(run)
            tally.good("reported")
        except UserError:
            tally.good("refused")
        except Exception as error:
            tally.bad(f"{path.name} bit {bit}: {type(error).__name__}: {error}")
        path.write_bytes(original)
    json.loads((run / "summary.json").read_text())
    return {"run files": tally}
