"""``ran audit MODEL DATA``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ..errors import UserError
from ..names import printable
from .arguments import parse
from .findings import StageProgress, print_json, print_summary

if TYPE_CHECKING:
    from ..audit.findings import Findings, Suspicion

DESCRIPTION = """Find shortcuts that a model relies on, such as a watermark: where the evidence for each class lies,
what the model looks at, and which spots alone change its predictions.

MODEL is a run folder or a checkpoint written by ran. DATA is a folder of class folders, a list or a named data set,
ideally of images that MODEL was not trained on. Writes a page and a JSON document; nothing in DATA is changed."""

FEWEST = 20  # images


@dataclass(frozen=True)
class AuditArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors file written by ran, shipped weights by name, or a hub's local-dir:FOLDER."""
    data: tyro.conf.Positional[str]
    """A folder of class folders, with or without train/val/test, a list of images, or a named data set."""
    out: Path | None = None
    """Folder for audit.html and audit.json; audit/<name of DATA> by default."""
    boxes: Path | None = None
    """JSON file that maps image paths relative to DATA to [x0, y0, x1, y1] in pixels, or to a list of such boxes. Only
    these images are audited, and evidence outside the boxes is reported."""
    classes: tuple[str, ...] = ()
    """Audit these classes; all by default."""
    split: Literal["test", "val", "train"] = "test"
    """Split of DATA to audit."""
    limit: int = 1000
    """Audit at most this many images, evenly spaced over the split."""
    data_dir: Path | None = None
    """Folder of a named data set."""
    seed: int = 0
    """Seed of the images that spots are pasted into, and of the intervals."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    json: bool = False
    """Print the JSON document instead of a summary, and nothing else to standard output."""
    debug: bool = False
    """Show tracebacks."""


def _line(number: int, one: "Suspicion") -> str:
    pasted, covered, lift = one.pasted, one.covered, one.pasted.lift
    return (
        f"{number}. {one.label}: {one.place.name}. Pasted into other images, it raises {one.label} by "
        f"{round(pasted.rise.mean)} points (control {round(pasted.control_rise.mean)}; difference {lift.mean:.0f} "
        f"[{lift.low:.0f}, {lift.high:.0f}]). Covering it takes {one.label} from {covered.right_before_pct:.0f} % "
        f"correct to {covered.right_after_pct:.0f} %."
    )


def summary(findings: "Findings") -> list[str]:
    """The suspicions, or that there are none, then the classes' evidence as a table."""
    found = findings.suspicions
    lines = [_line(i + 1, one) for i, one in enumerate(found)]
    if not found:
        most = f"{findings.threshold_points:.0f} points more than its controls"
        lines = [f"no suspected shortcut: no spot changes the predictions by {most}"]
    width = max(5, *(len(one.label) for one in findings.classes))
    boxed = any(one.outside_boxes_pct for one in findings.classes)
    header = ("images", "correct", "at the border", *(("outside boxes",) if boxed else ()), "same place")
    lines.append("  ".join((f"{'class':<{width}}", *header)))
    for one in findings.classes:
        outside = f"  {one.outside_boxes_pct.mean:>11.0f} %" if one.outside_boxes_pct else ""
        lines.append(
            f"{one.label:<{width}}  {one.images:>6}  {one.right_pct:>5.0f} %  {one.border_pct.mean:>11.0f} %{outside}"
            f"  {one.same_place:>10.2f}"
        )
    lines.append(f"evenly spread evidence would have {findings.border_of_uniform_pct:.0f} % at the border")
    return [printable(line) for line in lines]


def main(argv: list[str]) -> int:
    given = parse(AuditArguments, argv, prog="ran audit", description=DESCRIPTION)
    if given.limit < FEWEST:
        raise UserError(f"limit must be at least {FEWEST}, not {given.limit}")
    from ..audit.audit import AuditOptions, audit

    options = AuditOptions(
        model=given.model,
        data=given.data,
        data_dir=given.data_dir,
        split=given.split,
        boxes=given.boxes,
        classes=given.classes,
        limit=given.limit,
        out=given.out,
        seed=given.seed,
        device=given.device,
    )
    done = audit(options, StageProgress())
    found = done.findings
    if given.json:
        print_json(done)
        return 0
    few = [f"not audited, because they have too few images: {', '.join(found.left_out)}"] if found.left_out else []
    print_summary(done, [*found.notices, *few], summary(found))
    return 0
