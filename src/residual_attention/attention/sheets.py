"""Contact sheets: the masks of many images, over the images themselves, or over the network's square input."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..checkpoints import Classifier
from ..checkpoints.own_data import split_for
from ..data.images import read_image
from ..data.loading import evaluation_batches
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..own_files import OwnFiles
from .attend import labels_of
from .choices import is_signed, needs_gradients
from .figures import draw_attention, labels_title, prediction_title
from .masks import masks_are_signed
from .originals import Originals, read_originals, thumbnail
from .readings import look_in_parts, read
from .rows import Title

SHEET_IMAGES = 20

Truth = str | list[str] | None
"""The true class of an image, or all of its labels; None if it is not known."""


def _title(model: Classifier, probabilities: torch.Tensor, truth: Truth) -> Title:
    if not model.card.confidence.several:
        best = int(probabilities.argmax())
        assert not isinstance(truth, list)
        return prediction_title(truth, model.classes[best], float(probabilities[best]))
    given = [(model.classes[k], float(probabilities[k])) for k in labels_of(model, probabilities)]
    return labels_title([truth] if isinstance(truth, str) else truth, given)


def _draw_sheet(
    model: Classifier,
    squares: torch.Tensor,
    truth: Sequence[Truth],
    out: Path,
    reading: str | int,
    originals: Originals | None = None,
) -> Path:
    """Draw one sheet of preprocessed images (N, C, S, S). Of several labels, the most probable one is read."""
    found = look_in_parts(model, squares.to(device_of(model)), gradients=needs_gradients(reading))
    rows = zip(found.probabilities.cpu(), truth, strict=True)
    titles = [_title(model, probabilities, of_image) for probabilities, of_image in rows]
    draw_attention(
        model.preprocess.denormalize(squares.cpu()),
        titles,
        read(found, reading),
        out,
        reading=reading,
        signed=is_signed(reading, masks_are_signed(model)),
        originals=originals,
    )
    return out


def _sheet_name(count: int, number: int, form: str) -> str:
    return f"sheet.{form}" if count <= SHEET_IMAGES else f"sheet-{number}.{form}"


def draw_sheets(
    model: Classifier,
    paths: Sequence[Path],
    out: Path,
    *,
    reading: str | int = "mean",
    truth: Sequence[Truth] | None = None,
    form: str = "png",
) -> list[Path]:
    """Draw contact sheets of `SHEET_IMAGES` images each, with maps over the images."""
    truth = truth or [None] * len(paths)
    sheets: list[Path] = []
    for first in range(0, len(paths), SHEET_IMAGES):
        part = paths[first : first + SHEET_IMAGES]
        images = [read_image(path, model.preprocess.in_chans) for path in part]
        squares = torch.stack([model.preprocess(image) for image in images])
        originals = Originals([thumbnail(image) for image in images], model.preprocess, [path.name for path in part])
        sheet = OwnFiles(out).take(_sheet_name(len(paths), len(sheets) + 1, form))
        sheets.append(_draw_sheet(model, squares, truth[first : first + SHEET_IMAGES], sheet, reading, originals))
    return sheets


def draw_split(
    model: Classifier,
    data: str,
    out: Path,
    *,
    reading: str | int = "mean",
    data_dir: Path | None = None,
    split: str = "test",
    limit: int = SHEET_IMAGES,
    form: str = "png",
) -> list[Path]:
    """Draw sheets of ``limit`` images, evenly spaced over a split of a data set. Raises UserError for unknown data."""
    _, samples, _ = split_for(model, data, split=split, data_dir=data_dir)
    index = evenly_spaced(len(samples), limit)
    out.mkdir(parents=True, exist_ok=True)
    sheets: list[Path] = []
    batches = evaluation_batches(
        samples.subset(index), model.preprocess, batch_size=SHEET_IMAGES, device=torch.device("cpu")
    )
    for batch in batches:
        truth: list[Truth] = [
            model.classes[int(label)] if label.ndim == 0 else [model.classes[k] for k in label.nonzero()[:, 0].tolist()]
            for label in batch.labels
        ]
        sheet = OwnFiles(out).take(_sheet_name(len(index), len(sheets) + 1, form))
        originals = read_originals(samples.subset(index[batch.indices]), model.preprocess)
        sheets.append(_draw_sheet(model, batch.images, truth, sheet, reading, originals))
    return sheets
