"""``ran attend``: draws each image's masks over it, and saves arrays on request."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..checkpoints import Classifier
from ..data.images import ImageError, read_image
from ..devices import device_of
from ..own_files import OwnFiles
from ..palette import shortened
from .choices import is_signed, needs_gradients
from .figures import Drawn, draw_channels, draw_image, labels_title
from .geometry import on_original
from .masks import masks_are_signed
from .originals import displayed
from .readings import Look, check_channel, look, read
from .reductions import excited_channels

LABELS_DRAWN = 8  # of an image with more, the most probable ones


@dataclass(frozen=True, kw_only=True)
class AttendOptions:
    """How masks are read and what is written.

    ``reading``: one of `READINGS`, or a channel number. ``channels``: those of the before/after figure;
    the most excited one of each module if empty. ``form``: image format, png, jpg or webp.
    """

    reading: str | int = "mean"
    before_after: bool = False
    channels: tuple[int, ...] = ()
    save_arrays: bool = False
    top_k: int = 5
    form: str = "png"


@dataclass(frozen=True)
class Attended:
    """The result for one image: predictions, files and mask sizes.

    ``labels``: those that a multi-label classifier gives; None of a classifier of one class.
    """

    path: str
    top: list[tuple[str, float]]
    files: list[str]
    masks: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: list[tuple[str, float]] | None = None

    @property
    def shown(self) -> list[tuple[str, float]]:
        """What a line about the image says of it: the labels, or the most probable classes."""
        return self.top if self.labels is None else self.labels

    def to_dict(self) -> dict[str, Any]:
        top, given = ([{"class": name, "probability": share} for name, share in of] for of in (self.top, self.shown))
        answer = {"class": top[0]["class"]} if self.labels is None else {"labels": given}
        return {"path": self.path, **answer, "top": top, "files": self.files, "masks": self.masks}


def _unique_name(path: Path, taken: set[str]) -> str:
    """The file's stem, numbered if another image of the same call or a file of others has it."""
    name, number = path.stem, 2
    while name in taken:
        name, number = f"{path.stem}-{number}", number + 1
    taken.add(name)
    return name


def _top_classes(model: Classifier, probabilities: torch.Tensor, count: int) -> list[tuple[str, float]]:
    best = probabilities.topk(min(count, len(model.classes)))
    return [(model.classes[i], share) for share, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def labels_of(model: Classifier, probabilities: torch.Tensor) -> list[int]:
    """The labels that a multi-label classifier gives an image of these probabilities (K,), the most probable first."""
    given = model.card.confidence.given(probabilities)
    return [k for k in probabilities.argsort(descending=True, stable=True).tolist() if given[k]]


def _save_arrays(found: Look, out: Path) -> None:
    """Save the masks of one image by module name, (C, h, w) float32, and its logits."""
    arrays = {name: mask[0].cpu().numpy() for name, mask in found.masks.items()}
    np.savez_compressed(out, logits=found.logits[0].cpu().numpy(), **arrays)  # type: ignore[arg-type]


def _chosen_channels(found: Look, options: AttendOptions) -> dict[str, tuple[int, ...]]:
    if options.channels:
        for channel in options.channels:
            check_channel(channel, found.masks)
        return {
            name: had
            for name, mask in found.masks.items()
            if (had := tuple(channel for channel in options.channels if channel < mask.shape[1]))
        }
    return {name: (int(excited_channels(r)[0]),) for name, r in found.contributions.items()}


def look_at(
    model: Classifier, image: Image.Image, options: AttendOptions, target: int | None = None
) -> tuple[Look, torch.Tensor]:
    """Run the network on one image; returns the `Look`, at class ``target``, and the network's input (1, C, S, S)."""
    gradients = needs_gradients(options.reading) or (options.before_after and not options.channels)
    device = device_of(model)
    square = model.preprocess(image)[None].to(device)
    targets = None if target is None else torch.tensor([target])
    return look(model, square, targets=targets, gradients=gradients, features=options.before_after), square


def maps_on(model: Classifier, image: Image.Image, found: Look, reading: str | int) -> OrderedDict[str, torch.Tensor]:
    """Each module's map on the displayed image, (H, W); NaN outside the network's input."""
    preprocess = model.preprocess
    return OrderedDict(
        (name, on_original(values[0].cpu(), preprocess, *image.size)) for name, values in read(found, reading).items()
    )


def _line(pairs: Sequence[tuple[str, float]]) -> str:
    return "\n".join(f"{shortened(name, 28)} {100 * share:.1f} %" for name, share in pairs)


def attend_one(model: Classifier, path: Path, name: str, out: Path, options: AttendOptions) -> tuple[Attended, Look]:
    """Read an image, run the network and draw the masks. Raises ImageError if the file is not an image."""
    image = read_image(path, model.preprocess.in_chans)
    found = look_at(model, image, options)[0]
    signed = masks_are_signed(model)
    shown = displayed(image)
    probabilities = found.probabilities[0].cpu()
    top, labels, looks = _top_classes(model, probabilities, options.top_k), None, [found]
    titles = [_line(top[:2])]
    if model.card.confidence.several:
        given = labels_of(model, probabilities)
        labels = [(model.classes[k], float(probabilities[k])) for k in given]
        titles = [labels_title(None, labels)[0]]
        if needs_gradients(options.reading):  # each label has maps of its own; without any, the most probable one
            looks = [look_at(model, image, options, k)[0] for k in given[:LABELS_DRAWN]] or looks
            titles = [_line([label]) for label in labels[:LABELS_DRAWN]] or [
                f"no label; most likely:\n{_line(top[:1])}"
            ]
    drawn = Drawn(
        name=path.name,
        picture=np.asarray(shown.convert("RGB")),
        titles=titles,
        maps=[maps_on(model, shown, each, options.reading) for each in looks],
        sizes={module: (mask.shape[2], mask.shape[3]) for module, mask in found.masks.items()},
    )
    files = [out / f"{name}.{options.form}"]
    draw_image(drawn, files[0], reading=options.reading, signed=is_signed(options.reading, signed))
    if options.before_after:
        files.append(out / f"{name}-before-after.{options.form}")
        chosen = _chosen_channels(found, options)
        draw_channels(drawn.picture, found, chosen, files[-1], preprocess=model.preprocess, signed=signed)
    if options.save_arrays:
        files.append(out / f"{name}.npz")
        _save_arrays(found, files[-1])
    masks = {
        module: {"channels": mask.shape[1], "height": mask.shape[2], "width": mask.shape[3], "mean": mask.mean().item()}
        for module, mask in found.masks.items()
    }
    return Attended(str(path), top, [str(file) for file in files], masks, labels), found


def attend(
    model: Classifier, paths: Sequence[Path], out: Path, options: AttendOptions = AttendOptions()
) -> Iterator[Attended | ImageError]:
    """Yield the result for each file, or its error if it is not an image; the other files are still processed.

    Creates ``out`` and writes only there. Files with the same stem are numbered, and no file of others is replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    own = OwnFiles(out)
    taken = {"sheet"} | {other.stem for other in out.iterdir() if other.name not in own.names}
    for path in paths:
        try:
            attended = attend_one(model, path, _unique_name(path, taken), out, options)[0]
            for file in attended.files:
                own.note(Path(file).name)
            yield attended
        except ImageError as error:
            yield error
