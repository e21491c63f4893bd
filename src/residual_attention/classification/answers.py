"""Predictions in the forms that people act on: aligned text, a CSV table, copies in class folders."""

import csv
import filecmp
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..atomic import write_atomically
from ..errors import UserError
from ..names import printable
from .predict import NO_LABEL, Prediction, Unread

UNLIKE = "unlike the training images"


def text_lines(predictions: Sequence[Prediction]) -> list[str]:
    """One line each, in columns: path, answer, probability, then the other classes.

    Of a multi-label classifier: path, all labels given with their probabilities, then the others in brackets.
    """
    if predictions and predictions[0].labels is not None:
        return _aligned([_labels_row(found) for found in predictions])
    rows = []
    for found in predictions:
        others = found.top if found.unsure else found.top[1:]
        note = UNLIKE if found.unlike else ""
        rows.append([printable(found.path), found.answer, f"{100 * found.top[0][1]:5.1f} %", _shares(others), note])
    return _aligned(rows)


def _shares(pairs: Sequence[tuple[str, float]]) -> str:
    return "  ".join(f"{name} {100 * share:.1f} %" for name, share in pairs)


def _labels_row(found: Prediction) -> list[str]:
    assert found.labels is not None
    others = _shares([pair for pair in found.top if pair not in found.labels])
    return [printable(found.path), _shares(found.labels) or NO_LABEL, f"({others})" if others else ""]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def check_csv(out: Path) -> None:
    """Raise UserError unless a table can be written to ``out``."""
    if out.suffix.lower() != ".csv":
        raise UserError(f"--csv {out}: the file must end in .csv")
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UserError(f"--csv {out}: {'a folder' if out.is_dir() else f'no folder {out.parent}'}")


def write_csv(predictions: Sequence[Prediction], unread: Sequence[Unread], out: Path) -> None:
    """One row per image, with the columns path, class, probability, unsure, unlike_training, error, then the next
    classes. Images that could not be read come last, with their ``error``. Replaces an existing file."""
    count = max((len(found.top) for found in predictions), default=1)
    names = ["path", "class", "probability", "unsure", "unlike_training", "error"]
    names += [f"{what}_{rank}" for rank in range(2, count + 1) for what in ("class", "probability")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for found in predictions:
        flags = ["" if flag is None else str(flag).lower() for flag in (found.unsure, found.unlike)]
        then = [cell for name, share in found.top[1:] for cell in (name, f"{share:.6f}")]
        writer.writerow([found.path, found.answer, f"{found.top[0][1]:.6f}", *flags, "", *then])
    writer.writerows([[str(failure.path), "", "", "", "", failure.reason] for failure in unread])
    write_atomically(out, text.getvalue().encode(errors="surrogateescape"))


def write_labels_csv(
    predictions: Sequence[Prediction], unread: Sequence[Unread], classes: Sequence[str], out: Path
) -> None:
    """The same of a multi-label classifier: path, labels (``a;b``, empty for none), error, each label's probability.

    ``predictions`` hold all labels in their ``top``. Without the last columns it is a list that ``ran train`` reads.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "labels", "error", *(f"probability of {name}" for name in classes)])
    for found in predictions:
        shares = dict(found.top)
        labels = ";".join(name for name, _ in found.labels or [])
        writer.writerow([found.path, labels, "", *(f"{shares[name]:.6f}" for name in classes)])
    writer.writerows([[str(failure.path), "", failure.reason, *("" for _ in classes)] for failure in unread])
    write_atomically(out, text.getvalue().encode(errors="surrogateescape"))


def check_sorting(folder: Path, sources: Sequence[str]) -> None:
    """Raise UserError for a folder inside one of the sources: the next call would classify the copies too."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--sort-into {folder}: not a folder")
    for source in sources:
        if Path(source).is_dir() and folder.resolve().is_relative_to(Path(source).resolve()):
            raise UserError(f"--sort-into {folder} is inside {source}, whose images it would add to; choose another")


def _folder_name(name: str) -> str:
    """A class name as the name of one folder, whatever a model's card holds."""
    plain = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name).strip().rstrip(".")
    return plain or "_"


def _copied(source: Path, folder: Path) -> bool:
    """Copy under the same name, numbered if another file has it. False if the same file is already there."""
    number = 1
    while True:
        target = folder / (source.name if number == 1 else f"{source.stem}-{number}{source.suffix}")
        try:
            with open(source, "rb") as original, open(target, "xb") as copy:
                try:
                    shutil.copyfileobj(original, copy)
                except BaseException:
                    target.unlink(missing_ok=True)
                    raise
        except FileExistsError:
            if target.is_file() and filecmp.cmp(source, target, shallow=False):
                return False
            number += 1
        else:
            shutil.copystat(source, target)
            return True


def sort_into(predictions: Sequence[Prediction], folder: Path) -> tuple[int, int]:
    """Copy each image to ``folder/<answer>/``; originals stay, and no existing file is replaced.

    Returns how many were copied, and how many were already there.
    """
    copied = 0
    for found in predictions:
        place = folder / _folder_name(found.answer)
        place.mkdir(parents=True, exist_ok=True)
        copied += _copied(Path(found.path), place)
    return copied, len(predictions) - copied
