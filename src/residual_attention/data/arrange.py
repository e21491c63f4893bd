"""Before a run: copies among a listing's images are found, and missing splits are made by content."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..names import counted
from .fingerprints import Families, Fingerprint, Pair, exact_copies, fingerprints, near_copies
from .folders import MAX_NAMED, FolderListing, Label
from .folding import FOLDS_NEED, fold_notices, fold_of
from .placement import SPLITS, Item, Placed, place, units_of
from .request import DataRequest, folding
from .splits import HeldOutNotice

MAX_LOOKED = 20_000  # images that are decoded to find near copies; of more, only exact copies are found,
MAX_READ = 200_000  # and of more than this, with splits of their own, none
NAMES = {"val": "validation", "test": "test", "train": "training"}


def _classes(label: Label) -> frozenset[int]:
    return frozenset([label] if isinstance(label, int) else label)


def missing_splits(listing: FolderListing, request: DataRequest) -> dict[str, float]:
    """The splits to hold out, with their shares, in their order. No test split is made where others are given."""
    if folding(request):
        return {"val": request.val_fraction}
    fractions = {"test": request.test_fraction} if "all" in listing.splits else {}
    if not listing.splits.get("val"):
        fractions["val"] = request.val_fraction
    return fractions


def arranged(listing: FolderListing, request: DataRequest, placed: Placed | None = None) -> FolderListing:
    """The listing with train, val and test splits; notices say what was held out and which images are copies.

    Unchanged under the split rule *shuffle*. ``placed``: images of an earlier run.
    """
    if request.split_rule == "shuffle" and not folding(request):
        return listing
    rows = [
        (split, path, label)
        for split, pairs in listing.splits.items()
        for path, label in pairs
        if split != "test" or not folding(request)
    ]
    fractions, notices = missing_splits(listing, request), list(listing.notices)
    if len(rows) > MAX_READ and not any(fractions.values()) and not folding(request):
        notices.append(f"more than {MAX_READ:,} images, so copies across splits are not looked for")
        return replace(listing, notices=notices)
    prints = list(fingerprints([path for _, path, _ in rows], look=len(rows) <= MAX_LOOKED))
    near = near_copies(prints)
    if folding(request):
        rows = _with_fold(listing, rows, prints, near, request, notices)
    mine = [i for i, (split, _, _) in enumerate(rows) if split in ("all", "train")]
    sides = [split for split, _, _ in rows]
    if any(fractions.values()):
        items = _items(listing, rows, prints)
        where = {i: position for position, i in enumerate(mine)}
        pairs = [Pair(where[p.first], where[p.second], p.exact) for p in near if p.first in where and p.second in where]
        known = None if folding(request) else placed  # each image is tested in its fold, and in no other
        found = place([items[i] for i in mine], pairs, fractions=fractions, seed=request.seed, placed=known)
        for i, side in zip(mine, found.sides, strict=True):
            sides[i] = side
        notices += _held_out_notices(listing, found.lenders, sides, mine, fractions)
    sides = ["train" if side == "all" else side for side in sides]
    notices += copy_notices([path for _, path, _ in rows], prints, near, sides)
    notices += _conflict_notice(rows, prints)
    notices += _inherited_notice(placed, prints, sides)
    splits = {
        split: [(path, label) for (_, path, label), side in zip(rows, sides, strict=True) if side == split]
        for split in SPLITS
    }
    record = {one.digest: side for one, side in zip(prints, sides, strict=True) if one.digest}
    return replace(
        listing,
        splits={split: pairs for split, pairs in splits.items() if pairs},
        notices=notices,
        ours=frozenset(fractions) | ({"test"} if folding(request) else set()),
        placed=(placed or Placed()).joined(record),
    )


def _items(
    listing: FolderListing, rows: Sequence[tuple[str, Path, Label]], prints: Sequence[Fingerprint]
) -> list[Item]:
    return [
        Item(one.digest, _classes(label), listing.groups.get(path))
        for one, (_, path, label) in zip(prints, rows, strict=True)
    ]


def _with_fold(
    listing: FolderListing,
    rows: Sequence[tuple[str, Path, Label]],
    prints: Sequence[Fingerprint],
    near: Sequence[Pair],
    request: DataRequest,
    notices: list[str],
) -> list[tuple[str, Path, Label]]:
    """The rows, those of the fold as test images and the others as training images. Copies and groups are not divided.

    The fold of an image does not depend on the names of the files, only on their contents and classes.
    """
    assert request.fold is not None
    assert request.folds is not None
    if listing.several:
        raise UserError(FOLDS_NEED)
    fold, folds = request.fold, request.folds
    units = units_of(_items(listing, rows, prints), near)
    order = sorted(range(len(rows)), key=lambda i: (prints[i].digest, str(rows[i][2])))
    labels = [label for i in order if isinstance(label := rows[i][2], int)]
    found = fold_of(labels, [units[i] for i in order], listing.classes, folds, request.seed)
    held = {i for i, number in zip(order, found.tolist(), strict=True) if number == fold - 1}
    notices += fold_notices(fold, folds, len(held), len(rows), len(listing.splits.get("test", [])))
    return [("test" if i in held else "train", path, label) for i, (_, path, label) in enumerate(rows)]


def named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def _held_out_notices(
    listing: FolderListing, lenders: Mapping[str, list[int]], sides: list[str], mine: list[int], splits: Iterable[str]
) -> list[str]:
    notices: list[str] = []
    whole = len(mine)
    for split in splits:
        name = NAMES[split]
        count = sum(sides[i] == split for i in mine)
        if count:
            how = f"no {name} split: {count} of {whole} images are held out for it, by their content"
            notices.append(HeldOutNotice(name, how))
        whole -= count
        if lenders.get(split):
            classes = named([listing.classes[label] for label in lenders[split]])
            few = f"one {name} image was taken from each of these small classes: {classes}"
            notices.append(HeldOutNotice(name, few))
    return notices


def _of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def copy_notices(
    paths: Sequence[Path], prints: Sequence[Fingerprint], near: Sequence[Pair], sides: list[str]
) -> list[str]:
    """Which held-out images have a copy in training, and how many copies there are otherwise."""
    exact = exact_copies(prints)
    families = Families().join([*exact, *near]).sets(len(paths))
    across, rest = [], 0
    for members in families:
        training = [i for i in members if sides[i] == "train"]
        if training:
            across += [(i, training[0]) for i in members if sides[i] != "train"]
        rest += len(members) - 1
    notices = []
    if across:
        pairs = [f"{_of(paths[held])} ({NAMES[sides[held]]}) and {_of(paths[first])}" for held, first in across]
        notices.append(
            f"{len(across)} held-out images are copies of training images, so the errors are too low: {named(pairs)}"
        )
    if rest > len(across):
        where = "" if across else ", kept in one split"
        what = counted(rest, "image is an exact or near copy", "images are exact or near copies")
        notices.append(f"{what} of {'another' if rest == 1 else 'others'}{where}; `ran check` lists them")
    return notices


def _conflict_notice(rows: Sequence[tuple[str, Path, Label]], prints: Sequence[Fingerprint]) -> list[str]:
    pairs = [
        f"{_of(rows[p.first][1])} = {_of(rows[p.second][1])}"
        for p in exact_copies(prints)
        if _classes(rows[p.first][2]) != _classes(rows[p.second][2])
    ]
    return [f"{len(pairs)} images have a copy of another class: {named(pairs)}"] if pairs else []


def _inherited_notice(placed: Placed | None, prints: Sequence[Fingerprint], sides: Sequence[str]) -> list[str]:
    """How the images were placed before: kept, new, or trained on and now in a split that the data give."""
    if placed is None or not placed.sides:
        return []
    before = [placed.of(one.digest) for one in prints]
    known = sum(side is not None for side in before)
    if not known:
        return []
    new = len(prints) - known
    notices = [f"{known} images keep the split that an earlier run gave them; {new} are new"] if new else []
    seen = sum(old == "train" and new != "train" for old, new in zip(before, sides, strict=True))
    if seen:
        notices.append(f"{seen} held-out images were trained on by an earlier run, so the errors are too low")
    return notices
