"""The files below a data folder: which split each belongs to, and which image an annotation refers to."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..data.folders import EXTENSIONS, JUNK, SPLIT_NAMES
from ..data.walk import Visited, is_regular
from ..errors import UserError

DEPTH = 6  # levels of folders below the data folder that are searched
ORDER = ("train", "val", "test")


def split_in(name: str) -> str | None:
    """The split that a folder or file is named after: ``val`` for valid, val2017 or labels_val; None if none."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Tree:
    """Everything below ``root``, except hidden files and those of operating systems. The folder is read on first use,
    not before.
    """

    root: Path

    @classmethod
    def around(cls, file: Path) -> "Tree":
        """For a single annotation file: its folder, or the parent if that has no images."""
        tree = cls(file.parent)
        return tree if tree.images else cls(file.parent.parent)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        found, visited = [], Visited()
        for folder, folders, names in os.walk(self.root, followlinks=True):
            if not visited.enter(Path(folder)):
                folders.clear()
                continue
            depth = len(Path(folder).relative_to(self.root).parts)
            folders[:] = sorted(name for name in folders if not _is_junk(name) and depth < DEPTH)
            paths = [Path(folder) / name for name in names if not _is_junk(name)]
            found += [path for path in paths if is_regular(path)]
        return tuple(sorted(found))

    def of(self, *suffixes: str) -> list[Path]:
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def usable(self, suffix: str, check: Callable[[Path], object]) -> tuple[list[Path], str]:
        """The files of ``suffix`` that ``check`` does not raise a UserError for, and the first such error's text."""
        found, objection = [], ""
        for path in self.of(suffix):
            try:
                check(path)
                found.append(path)
            except UserError as error:
                objection = objection or str(error)
        return found, objection

    @cached_property
    def images(self) -> list[Path]:
        return self.of(*EXTENSIONS)

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        """Images by their name and by their stem, in lower case."""
        found: dict[str, list[Path]] = {}
        for path in self.images:
            for key in {path.name.lower(), path.stem.lower()}:
                found.setdefault(key, []).append(path)
        return found

    def split_of(self, path: Path, *, by_name: bool = False) -> str | None:
        """The split by the innermost folder named after one; with ``by_name``, the file's name decides first."""
        parts = path.relative_to(self.root).parts
        names = [path.stem] if by_name else []
        return next((split for name in (*names, *reversed(parts[:-1])) if (split := split_in(name))), None)

    def by_split(self, files: Sequence[Path], *, by_name: bool = False) -> dict[str, list[Path]]:
        """The files of each split; ``all`` when nothing is named after a split.

        Without a train folder, files outside the splits are training data. With one, they raise UserError.
        """
        found: dict[str | None, list[Path]] = {}
        for path in files:
            found.setdefault(self.split_of(path, by_name=by_name), []).append(path)
        outside = found.pop(None, [])
        if not found:
            return {"all": outside}
        if outside and "train" in found:
            first, inside = (paths[0].relative_to(self.root) for paths in (outside, found["train"]))
            raise UserError(
                f"{self.root}: {first} is in no split, but {inside} is; name it or its folder train, val or test, or "
                "rename the other one if it is not a split"
            )
        if outside:
            found["train"] = outside
        return {split: found[split] for split in ORDER if split in found}

    def image(self, names: Sequence[str], near: Path, split: str | None = None) -> Path | None:
        """The image that the annotation file ``near`` refers to by one of ``names``, with or without a suffix.

        Among several, the one beside the file, else the one that shares the most folders with it; never one from
        another split. A path that does not exist if there is none; None if two match equally well.
        """
        bases = [PurePosixPath(name.replace("\\", "/")).name for name in names if name]
        stems = [path.stem for path in map(PurePosixPath, bases) if path.suffix.lower() in EXTENSIONS]
        found: list[Path] = []
        for key in (*bases, *stems):
            found = found or self._named.get(key.lower(), [])
        found = [path for path in found if split is None or self.split_of(path) in (None, split)]
        if not found:
            return near.with_name(bases[-1]) if bases[-1] else near.parent  # "." and "/" name no file

        def fit(path: Path) -> tuple[bool, int, bool]:
            common = set(path.relative_to(self.root).parts[:-1]) & set(near.relative_to(self.root).parts[:-1])
            return path.parent == near.parent, len(common), path.name in bases

        ranked = sorted(found, key=fit, reverse=True)
        return None if len(ranked) > 1 and fit(ranked[0]) == fit(ranked[1]) else ranked[0]

    def summary(self) -> str:
        """The contents for a reader: ``212 .jpg and 3 .txt files``."""
        counts = Counter(path.suffix.lower() or "nameless" for path in self.files).most_common(4)
        if not counts:
            return "no files"
        shown = [f"{count} {suffix}" for suffix, count in counts]
        plural = "" if shown == [f"1 {counts[0][0]}"] else "s"
        return f"{', '.join(shown[:-1])}{' and ' if shown[:-1] else ''}{shown[-1]} file{plural}"


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK
