"""``ran audit``: where a model's evidence lies and which spots alone move its answers, as ``audit.html`` and
``audit.json``."""

from dataclasses import dataclass
from pathlib import Path

from ..attention.batches import check_one_class
from ..attention.masks import attention_modules
from ..checkpoints import Classifier, load
from ..checkpoints.hub import is_hub
from ..checkpoints.load import resolve_model
from ..devices import resolve_device
from ..errors import UserError
from ..hints import did_you_mean
from ..names import printable
from ..own_files import Written, own_folder
from ..stages import Clock, Say, silent
from .examine import examine
from .findings import Findings
from .gather import gather
from .page import render

PAGE, DOCUMENT = "audit.html", "audit.json"


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """``out`` is audit/<name of the data> if None; ``classes``: those to audit, all if empty."""

    model: str
    data: str
    data_dir: Path | None = None
    split: str = "test"
    boxes: Path | None = None
    classes: tuple[str, ...] = ()
    limit: int = 1000
    out: Path | None = None
    seed: int = 0
    device: str = "auto"


def audit(options: AuditOptions, say: Say = silent) -> Written[Findings]:
    """Audit MODEL on DATA and write page and document. Never writes into the data's folder.

    Raises UserError for a MODEL without masks or gradients, DATA that cannot be read or has one class only, an unknown
    class, or an ``out`` within the data's folder.
    """
    model = _model(options)
    own = own_folder(options.out, "audit", options.data, options.data_dir, (PAGE, DOCUMENT))
    chosen = _chosen(options, model)
    clock = Clock()
    with clock.stage("reading"):
        gathered = gather(
            model,
            options.data,
            data_dir=options.data_dir,
            split=options.split,
            boxes=options.boxes,
            limit=options.limit,
        )
    found = examine(
        model,
        gathered,
        data=Path(options.data).name or options.data,
        name=_shown(options.model),
        chosen=chosen,
        seed=options.seed,
        clock=clock,
        say=say,
    )
    return own.write_findings(found.findings, PAGE, render(found), DOCUMENT)


def _shown(model: str) -> str:
    """MODEL without this machine's folders."""
    path = Path(model)
    return "/".join(path.parts[-2:]) if path.is_absolute() else model


def _model(options: AuditOptions) -> Classifier:
    """Raises UserError for a MODEL that has no gradients, no masks, or gives several labels."""
    if not is_hub(options.model) and resolve_model(options.model).suffix == ".onnx":
        raise UserError(
            f"{printable(options.model)}: an audit needs gradients, which an .onnx file does not have; "
            "give its run folder or .safetensors file"
        )
    model = load(options.model, resolve_device(options.device))
    check_one_class(model, "ran audit")
    if not attention_modules(model):
        raise UserError(f"{printable(options.model)} has no masks to read: it was built with learning=plain")
    return model


def _chosen(options: AuditOptions, model: Classifier) -> list[int] | None:
    for name in options.classes:
        if name not in model.classes:
            hint = did_you_mean(name, model.classes)
            raise UserError(
                f"the model has no class {name!r}{hint}; it has {', '.join(model.classes[:8])}"
                + (", ..." if len(model.classes) > 8 else "")
            )
    return [model.classes.index(name) for name in options.classes] or None
