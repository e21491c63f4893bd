"""The page's content for one image, independent of the web: classified once, redrawn whenever a slider moves."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from ..attention.attend import AttendOptions, look_at
from ..attention.choices import READINGS, is_signed
from ..attention.geometry import on_original
from ..attention.masks import attention_modules, masks_are_signed
from ..attention.originals import displayed
from ..attention.overlay import OPACITY, display_range, enlarged, heat
from ..attention.readings import Look, level_names, read
from ..attention.reductions import excited_channels
from ..checkpoints import Classifier
from ..classification.predict import unlike_training
from ..data.folders import EXTENSIONS
from ..data.images import read_image
from ..names import printable
from ..palette import SIGNED, UNSIGNED

ONE_CHANNEL = "one channel"  # listed with the readings; no registered name has a space
TILE = 224  # px, minimum side of the pictures before and after
SHOWN = 400  # px, minimum long side of the image itself
EXAMPLES = 12

P = ParamSpec("P")
T = TypeVar("T")

_ONE_THREAD = ThreadPoolExecutor(1, thread_name_prefix="demo")


def _in_one_thread(call: Callable[P, T]) -> Callable[P, T]:
    """The call, made in one thread whichever thread asks.

    Masks are recorded by hooks on a shared model, so images take turns. And each thread that allocates tensors or
    pictures gets a heap of its own from the C library, which keeps what is freed there: the forty threads that Gradio
    answers from would take as many times the memory of one.
    """

    @wraps(call)
    def made(*arguments: P.args, **options: P.kwargs) -> T:
        return _ONE_THREAD.submit(call, *arguments, **options).result()

    return made


@dataclass(frozen=True)
class Session:
    """One image and its forward pass, with masks and features on the CPU; ``verdict`` says what to be careful about."""

    picture: Image.Image
    found: Look
    top: dict[str, float]
    model: Classifier
    verdict: str = ""

    @property
    def modules(self) -> list[str]:
        return list(self.found.masks)


def reading_labels() -> list[tuple[str, str]]:
    """Each reading's label on the page, and its name."""
    return [*((READINGS.choice(name).text, name) for name in READINGS), (ONE_CHANNEL, ONE_CHANNEL)]


def module_names(model: Classifier) -> list[str]:
    """The attention modules, from low to high level."""
    return list(attention_modules(model))


@_in_one_thread
def open_session(model: Classifier, path: Path, top_k: int = 5, *, least: float | None = None) -> Session:
    """Classify one file; a probability below ``least`` is unsure.

    Raises ImageError, in one line, if the file is not an image or too large.
    """
    image = read_image(path, model.preprocess.in_chans)
    found, square = look_at(model, image, AttendOptions(reading="class", before_after=True))
    with torch.inference_mode():
        _, alike = model.with_likeness(square) if model.card.confidence.centre else (None, None)
    (unlike,) = unlike_training(model, alike, 1)
    found = found.on_cpu()
    best = found.probabilities[0].cpu().topk(min(top_k, len(model.classes)))
    top = {model.classes[i]: share for share, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)}
    if model.card.confidence.several:
        verdict = _labels_verdict(model, found, least)
    else:
        verdict = _verdict(max(top.values()), least, unlike)
    return Session(displayed(image, SHOWN).convert("RGB"), found, top, model, verdict)


def _verdict(probability: float, least: float | None, unlike: bool | None) -> str:
    lines = []
    if least is not None and probability < least:
        lines.append(f"**Unsure**: the highest probability is below {100 * least:.0f} %.")
    if unlike:
        lines.append("**Unlike the training images**: none of the classes may be right.")
    return "\n\n".join(lines)


def _labels_verdict(model: Classifier, found: Look, least: float | None) -> str:
    """Which labels a multi-label classifier gives; readings by class are of the most probable one."""
    given = model.card.confidence.given(found.probabilities[0], least).nonzero()[:, 0].tolist()
    names = ", ".join(_plain(model.classes[k]) for k in given) or "none of them reaches its threshold"
    return f"**Labels**: {names}.\n\nReadings by class are of {_plain(model.classes[int(found.targets[0])])}."


def _plain(name: str) -> str:
    """A name in Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~-])", r"\\\1", printable(name))


def _map_values(session: Session, module: str, reading: str, channel: int) -> torch.Tensor:
    """(h, w) of a module; a channel number beyond the module's last means the last."""
    if reading == ONE_CHANNEL:
        mask = session.found.masks[module][0]
        return mask[min(max(channel, 0), len(mask) - 1)].cpu()
    return read(session.found, reading)[module][0].cpu()


@_in_one_thread
def overlay(
    session: Session, module: int, reading: str, channel: int = 0, opacity: float = OPACITY
) -> tuple[Image.Image, str]:
    """The image with the map of the ``module``-th attention module on it, and a line that describes it."""
    name = session.modules[min(max(module, 0), len(session.modules) - 1)]
    values = _map_values(session, name, reading, channel)
    signed = is_signed(channel if reading == ONE_CHANNEL else reading, masks_are_signed(session.model))
    on_picture = on_original(values, session.model.preprocess, *session.picture.size)
    low, high = display_range(on_picture, signed)
    drawn = heat(np.asarray(session.picture), on_picture, signed=signed, opacity=min(max(opacity, 0.0), 1.0))
    mask = session.found.masks[name]
    level = level_names(session.modules)[name].capitalize()
    shape = f"{mask.shape[1]} channels of {mask.shape[2]}×{mask.shape[3]}"
    return Image.fromarray(drawn), f"{level} ({name}): {shape}; colours from {low:.3g} to {high:.3g}"


def _coloured(values: torch.Tensor, low: float, high: float, colours: str) -> Image.Image:
    share = ((values - low) / max(high - low, 1e-6)).clamp(0, 1).numpy()
    picture = np.rint(255 * colormaps[colours](share)[..., :3]).astype(np.uint8)
    return Image.fromarray(enlarged(picture, TILE))


@_in_one_thread
def before_and_after(session: Session, module: int, reading: str, channel: int = 0) -> tuple[list[Image.Image], str]:
    """Feature map before the mask, the mask, feature map after it, and a line that describes them.

    For the chosen channel, or else the most excited one.
    """
    name = session.modules[min(max(module, 0), len(session.modules) - 1)]
    found = session.found
    if reading == ONE_CHANNEL:
        chosen = min(max(channel, 0), found.masks[name].shape[1] - 1)
    else:
        chosen = int(excited_channels(found.contributions[name])[0])
    before, mask, after = (part[name][0, chosen].cpu() for part in (found.before, found.masks, found.after))
    limit = max(float(before.abs().max()), float(after.abs().max()), 1e-6)
    signed = masks_are_signed(session.model)
    low, high = display_range(mask, signed)
    pictures = [
        _coloured(before, -limit, limit, SIGNED),
        _coloured(mask, low, high, SIGNED if signed else UNSIGNED),
        _coloured(after, -limit, limit, SIGNED),
    ]
    line = (
        f"Channel {chosen} of {name}: features before the mask (T, purple {-limit:.2g} to orange {limit:.2g}), "
        f"the mask (M, {low:.2f} to {high:.2f}), features after it (H, same colours as T)"
    )
    return pictures, line


def example_images(folders: Sequence[Path]) -> list[Path]:
    """Up to `EXAMPLES` images, by name, from the first folder that has any."""
    for folder in folders:
        if folder.is_dir():
            found = sorted(
                p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")
            )
            if found:
                step = max(1, len(found) // EXAMPLES)
                return found[::step][:EXAMPLES]
    return []
