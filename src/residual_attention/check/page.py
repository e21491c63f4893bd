"""``check.html``: one self-contained page with thumbnails of what a check found."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow

from ..data.images import ImageError
from ..data.readable import FEW_IMAGES
from ..names import printable
from ..training.page import environment, short_duration
from .findings import Findings, Suspect
from .gather import Entry, Source

SHOWN_FAMILIES, SHOWN_MEMBERS, SHOWN_SUSPECTS, SHOWN_NAMES = 40, 6, 60, 100
WEAK_PCT = 60.0  # agreement with the labels below which most suspects are false alarms
SIDE = 112  # px of a thumbnail


@dataclass(frozen=True)
class Thumbnail:
    picture: str | None
    name: str
    split: str
    classes: str


def _data_url(image: Pillow.Image) -> str:
    """Small images are enlarged by the browser, not here."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    if max(small.size) <= 64:
        small.save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shown(path: str) -> str:
    """The name on the page; of a path that is not below the data's folder, its last two parts alone."""
    parts = Path(path).parts
    return printable("/".join(parts[-2:]) if Path(path).is_absolute() else path)


def _thumbnail(source: Source, entry: Entry) -> Thumbnail:
    try:
        picture = _data_url(source.picture(entry, SIDE))
    except ImageError:  # removed meanwhile
        picture = None
    labels = (entry.label,) if isinstance(entry.label, int) else entry.label
    classes = ", ".join(source.classes[label] for label in labels)
    split = "" if entry.split == "all" else entry.split
    return Thumbnail(picture, _shown(source.shown(entry)), split, classes)


def _headline(findings: Findings, source: Source) -> list[dict[str, str]]:
    copies, labels = findings.copies, findings.labels
    boxes = [
        ("Images", f"{findings.images:,}", f"of {len(source.classes):,} classes"),
        ("Unreadable", f"{len(findings.unreadable):,}", "left out of training"),
        ("Copies", f"{copies.exact + copies.near:,}", f"{copies.exact:,} exact, {copies.near:,} near"),
    ]
    if len(findings.overview.counts) > 1:
        boxes.append(("Held-out copies", f"{copies.held_out_in_training:,}", "of an image in training"))
    if labels is not None:
        boxes.append(("Suspect labels", f"{len(labels.suspects):,}", f"of {labels.checked:,} checked"))
    return [{"label": label, "value": value, "note": note} for label, value, note in boxes]


def _counts(findings: Findings) -> list[dict[str, object]]:
    """A row a class, the rarest in training first."""
    counts = findings.overview.counts
    main = next(iter(counts.values()), {})
    rows = [{"name": name, "counts": [of[name] for of in counts.values()]} for name in main]
    first = list(counts).index("train") if "train" in counts else 0
    return sorted(rows, key=lambda row: row["counts"][first])  # type: ignore[index]


def _shown_members(entries: Sequence[Entry], members: Sequence[int]) -> list[int]:
    """A few images of a family: first one of each split and class, so that what makes it matter is seen."""
    first: dict[tuple[str, object], int] = {}
    for i in members:
        first.setdefault((entries[i].split, entries[i].label), i)
    rest = [i for i in members if i not in first.values()]
    return [*first.values(), *rest][:SHOWN_MEMBERS]


def render(findings: Findings, source: Source, families: Sequence[Sequence[int]]) -> str:
    """The page. ``families``: the positions of the images of ``findings.copies.families``."""
    entries = source.entries
    by_name = {source.shown(entry): entry for entry in entries}
    shown = list(zip(findings.copies.families, families, strict=True))[:SHOWN_FAMILIES]
    copies = [
        {
            "family": family,
            "images": [_thumbnail(source, entries[i]) for i in _shown_members(entries, members)],
            "more": max(0, len(members) - SHOWN_MEMBERS),
        }
        for family, members in shown
    ]
    first: tuple[Suspect, ...] = findings.labels.suspects[:SHOWN_SUSPECTS] if findings.labels else ()
    suspects = [{"suspect": one, **vars(_thumbnail(source, by_name[one.image.path]))} for one in first]
    templates = environment("residual_attention.check")
    templates.filters["printable"] = printable
    return templates.get_template("check.html.j2").render(
        findings=findings,
        headline=_headline(findings, source),
        counts=_counts(findings),
        copies=copies,
        suspects=suspects,
        unreadable=[(_shown(one.path), one.reason) for one in findings.unreadable[:SHOWN_NAMES]],
        blank=[_shown(name) for name in findings.overview.blank[:SHOWN_NAMES]],
        notices=[printable(notice) for notice in findings.notices],
        seconds=short_duration(sum(findings.time_s.values())),
        shown_names=SHOWN_NAMES,
        few=FEW_IMAGES,
        weak=WEAK_PCT,
    )
