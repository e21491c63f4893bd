"""The end of a run: best weights, all splits evaluated once, summary, figures, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..attention.choices import is_signed
from ..attention.figures import draw_attention
from ..attention.masks import attention_modules, masks_are_signed
from ..attention.overlay import as_picture
from ..attention.readings import look_in_parts, read
from ..data.datasets import Dataset
from ..data.loading import evaluation_batches
from ..data.samples import Samples
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..training.results import load_best, run_facts, say_where
from .evaluate import Evaluation, evaluate
from .examples import clear_successes, worst_mistakes
from .figures import draw_calibration, draw_confusion, draw_curves
from .measures import summarise
from .report import write_report

if TYPE_CHECKING:
    from ..training.loop import Job
    from ..training.state import TrainState
    from ..training.writer import RunWriter
    from .task import ClassificationTask

TRAIN_IMAGES_EVALUATED = 10_000
EXAMPLES = 8


def finish_classification(
    task: "ClassificationTask", job: "Job", state: "TrainState", writer: "RunWriter"
) -> dict[str, Any]:
    """Load the best weights, evaluate each split once, write everything. Returns the summary on every rank."""
    folder, dataset, config = writer.folder, task.dataset, task.config
    model = load_best(state, writer)
    summary = run_facts(job, state, task.plan, folder.path) | {
        "data": dataset.name,
        "recipe": config.recipe,
        "image_size_px": config.image_size,
        "classes": dataset.classes,
        "skipped_images": len(job.processes.union(task.skipped)) + dataset.skipped,
        "notices": list(dataset.notices),
    }
    train = task.data.samples.subset(evenly_spaced(len(task.data.samples), TRAIN_IMAGES_EVALUATED))
    # in fp32 throughout: what is reported must not depend on the machine
    result = evaluate(model, task.evaluation(train, skip_bad=config.skip_bad_images))
    summary["train"] = {"loss": result.loss, "error_pct": result.top1_error_pct, "images": len(result)}
    shown: Evaluation | None = None
    for name, split in (("val", dataset.val), ("test", dataset.test)):
        if split is None or len(split) == 0:
            summary[name] = None
            continue
        shown = evaluate(model, task.evaluation(split))
        measures = summarise(shown.probabilities, shown.labels, dataset.classes)
        summary[name] = {"loss": shown.loss, "error_pct": shown.top1_error_pct, **measures}
    if writer.processes.is_main:
        folder.write_summary(summary)
        _draw(writer, model, dataset, summary, shown)
        write_report(folder.path)
        _say_end(writer, summary)
    writer.processes.barrier()
    return summary


def _draw(
    writer: "RunWriter", model: torch.nn.Module, dataset: Dataset, summary: dict[str, Any], shown: Evaluation | None
) -> None:
    folder = writer.folder
    draw_curves(folder.metrics, folder.curves)
    last = summary["test"] or summary["val"]
    if shown is None or last is None:
        return
    split = dataset.test if summary["test"] else dataset.val
    assert split is not None
    draw_confusion(last["confusion"], dataset.classes, folder.confusion)
    draw_calibration(shown.probabilities, shown.labels, folder.path / "calibration.png")
    _draw_examples(writer, model, dataset, split, shown)
    if writer.board is not None:
        writer.board.picture("confusion matrix", folder.confusion, summary["steps"])
        metrics = {
            f"final/{split}_error_pct": float(summary[split]["error_pct"])
            for split in ("train", "val", "test")
            if summary.get(split)
        }
        writer.board.finish(writer.config.to_dict(), metrics, summary["steps"])
        writer.board.close()


def _draw_examples(
    writer: "RunWriter", model: torch.nn.Module, dataset: Dataset, split: Samples, shown: Evaluation
) -> None:
    """Masks of images evenly spaced over the split, of the worst mistakes, and of successes of many classes."""
    folder = writer.folder
    if not attention_modules(model):  # learning=plain
        return
    mistakes, successes = worst_mistakes(shown, EXAMPLES), clear_successes(shown, EXAMPLES)
    device = device_of(model)
    for out, few, reading in (
        (folder.attention, split.subset(evenly_spaced(len(split), EXAMPLES)), "mean"),
        (folder.path / "mistakes.png", split.subset(mistakes), "class"),
        (folder.path / "successes.png", split.subset(successes), "class"),
    ):
        if len(few) == 0:  # a network without mistakes on this split
            out.unlink(missing_ok=True)
            continue
        batch = next(iter(evaluation_batches(few, dataset.preprocess, batch_size=EXAMPLES, device=device)))
        found = look_in_parts(model, batch.images, gradients=reading == "class")
        confidence, predicted = found.probabilities.max(dim=1)
        pictures = dataset.preprocess.denormalize(batch.images.cpu())
        truth = [dataset.classes[i] for i in batch.labels.tolist()]
        if out == folder.attention:
            _save_examples(folder.path / "examples", pictures, truth)
        draw_attention(
            pictures,
            truth,
            [dataset.classes[i] for i in predicted.tolist()],
            confidence.tolist(),
            read(found, reading),
            out,
            reading=reading,
            signed=is_signed(reading, masks_are_signed(model)),
        )


def _save_examples(folder: Path, pictures: Tensor, truth: list[str]) -> None:
    """The images of ``attention.png`` as files, for ``ran demo`` and ``ran attend`` to try: ``0-<class>.png``."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for i, (picture, label) in enumerate(zip(as_picture(pictures), truth, strict=True)):
        plain = "".join(c if c.isalnum() or c in " -_" else "_" for c in label)
        Image.fromarray(picture).save(folder / f"{i}-{plain}.png")


def _say_end(writer: "RunWriter", summary: dict[str, Any]) -> None:
    say = writer.display.say
    say("")
    for name in ("train", "val", "test"):
        if summary[name] is not None:
            part = summary[name]
            say(f"{name:>5}  error {part['error_pct']:6.2f} %   loss {part['loss']:.4f}   {part['images']} images")
    say_where(writer, summary, "ran predict")
