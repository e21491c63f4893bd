"""The results of a finished classification run: figures for the summary, pictures for the folder."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from ..attention.choices import is_signed
from ..attention.figures import draw_attention, draw_sheet, prediction_title
from ..attention.masks import attention_modules, masks_are_signed
from ..attention.originals import read_originals
from ..attention.overlay import as_picture
from ..attention.readings import Look, look_in_parts, read
from ..attention.rows import Sheet, Title, write_sheet
from ..checkpoints.card import Card
from ..checkpoints.confidence import Confidence
from ..data.datasets import Dataset
from ..data.loading import evaluation_batches
from ..data.samples import Samples
from ..data.splits import evenly_spaced
from ..devices import device_of
from ..own_files import OwnFiles
from ..training.pictures import Attempts
from ..training.runfolder import RunFolder
from ..training.task import Outcome
from .calibration import measure_confidence, risk_coverage
from .config import TrainConfig
from .development import development_sheet
from .evaluate import Evaluation
from .examples import Chosen, Examples, clear_successes, worst_mistakes
from .figures import draw_calibration, draw_confusion, draw_curves, draw_risk_coverage
from .interval import error_text
from .measures import calibration_error_pct, classification_measures

EXAMPLES = 8
READING = "class"  # of the masks that a report shows


@dataclass(frozen=True, kw_only=True)
class ClassificationOutcome(Outcome):
    """An `Outcome`: the best weights on the training images (without augmentation) and on the held-out splits.

    ``held_out`` maps *val* and *test* to their evaluation, if the data have them; ``alike``
    is what `calibration.measure_likeness` finds on validation images.
    """

    model: nn.Module
    config: TrainConfig
    dataset: Dataset
    train: Evaluation
    held_out: dict[str, Evaluation]
    alike: Confidence = field(default_factory=Confidence)
    skipped_images: int

    @cached_property
    def confidence(self) -> Confidence:
        return measure_confidence(self.held_out.get("val"), self.alike)

    def completed(self, card: Card) -> Card:
        return replace(card, confidence=self.confidence)

    def compute_figures(self) -> dict[str, Any]:
        dataset, train = self.dataset, self.train
        return {
            "data": dataset.name,
            "recipe": self.config.recipe,
            "image_size_px": self.config.image_size,
            "classes": dataset.classes,
            "skipped_images": self.skipped_images,
            "notices": list(dataset.notices),
            "temperature": self.confidence.temperature,
            "train": {"loss": train.loss, **self._few_figures(train), "images": len(train)},
            "val": self._split_figures("val"),
            "test": self._split_figures("test"),
        }

    def _few_figures(self, found: Evaluation) -> dict[str, Any]:
        """Those of the training images."""
        return {"error_pct": found.top1_error_pct}

    def _split_figures(self, name: str) -> dict[str, Any] | None:
        if (found := self.held_out.get(name)) is None:
            return None
        measures = classification_measures(found.probabilities, found.labels, self.dataset.classes)
        calibrated = self.confidence.probabilities(found.logits)
        return {
            "loss": found.loss,
            "error_pct": found.top1_error_pct,
            **measures,
            "calibrated_ece_pct": calibration_error_pct(calibrated, found.labels),
            "risk_coverage": [list(point) for point in risk_coverage(calibrated, found.labels)],
        }

    def final_metrics(self) -> dict[str, float]:
        splits = ("train", "val", "test")
        return {f"{name}_error_pct": float(part["error_pct"]) for name in splits if (part := self.figures[name])}

    def lines(self) -> list[str]:
        lines = [
            f"{name:>5}  error {error_text(part)}   loss {part['loss']:.4f}   {part['images']} images"
            for name in ("train", "val", "test")
            if (part := self.figures[name])
        ]
        if self.shown and self.confidence.images:
            part, temperature = self.figures[self.shown], self.confidence.temperature
            lines.append(
                f"calibration error on {self.shown} {part['ece_pct']:.1f} %; with the temperature {temperature:.2f}, "
                f"fitted on validation, {part['calibrated_ece_pct']:.1f} %"
            )
        return lines

    def draw(self, folder: RunFolder, attempts: Attempts) -> dict[str, Path]:
        """Draw curves, and measures and examples of the test split (of validation if there is none)."""
        with attempts.attempt(folder.curves.name):
            draw_curves(folder.metrics, folder.curves)
        if (name := self.shown) is None:
            return {}
        shown = self._draw_measures(folder, name, attempts)
        if attention_modules(self.model):  # none with learning=plain
            self._draw_examples(folder, getattr(self.dataset, name), self.held_out[name], attempts)
            with attempts.attempt("development.png"):
                self._draw_development(folder)
        return shown

    def _draw_measures(self, folder: RunFolder, name: str, attempts: Attempts) -> dict[str, Path]:
        """Confusion, calibration and coverage of a split; those that TensorBoard shows too, by tag."""
        found = self.held_out[name]
        with attempts.attempt(folder.confusion.name):
            draw_confusion(self.figures[name]["confusion"], self.dataset.classes, folder.confusion)
        with attempts.attempt("calibration.png"):
            calibrated = self.confidence.probabilities(found.logits)
            draw_calibration(found.probabilities, found.labels, folder.path / "calibration.png", calibrated=calibrated)
        with attempts.attempt("coverage.png"):
            draw_risk_coverage(self.figures[name]["risk_coverage"], folder.path / "coverage.png")
        return {"confusion matrix": folder.confusion} if folder.confusion.is_file() else {}

    def _draw_examples(self, folder: RunFolder, split: Samples, found: Evaluation, attempts: Attempts) -> None:
        """Draw the masks of evenly spaced images, of the worst mistakes, and of successes from many classes."""
        chosen = self._chosen_examples(found)
        for out, few in (
            (folder.attention, Examples(evenly_spaced(len(split), EXAMPLES))),
            (folder.path / "mistakes.png", chosen.mistakes),
            (folder.path / "successes.png", chosen.successes),
        ):
            if len(few.positions) == 0:  # a network without mistakes on this split
                out.unlink(missing_ok=True)
                (folder.sheets / f"{out.stem}.json").unlink(missing_ok=True)
                continue
            with attempts.attempt(out.name):
                pictures, names, sheet = self._draw_images(split, few, out)
                write_sheet(sheet, folder.sheets / f"{out.stem}.json")
                if out == folder.attention:
                    _save_examples(folder.path / "examples", pictures, names)

    def _draw_development(self, folder: RunFolder) -> None:
        if (sheet := development_sheet(folder.development, self.dataset)) is not None:
            draw_sheet(sheet, folder.path / "development.png")
            write_sheet(sheet, folder.sheets / "development.json")

    def _chosen_examples(self, found: Evaluation) -> Chosen:
        return Chosen(Examples(worst_mistakes(found, EXAMPLES)), Examples(clear_successes(found, EXAMPLES)))

    def _draw_images(self, split: Samples, few: Examples, out: Path) -> tuple[Tensor, list[str], Sheet]:
        """Draw the masks of a few images, over their files if they have any.

        Returns the network's inputs (B, C, S, S) as uint8, names for them, and what was drawn.
        """
        preprocess, device = self.dataset.preprocess, device_of(self.model)
        samples = split.subset(few.positions)
        batch = next(iter(evaluation_batches(samples, preprocess, batch_size=EXAMPLES, device=device)))
        found = look_in_parts(self.model, batch.images, targets=few.labels)
        pictures = preprocess.denormalize(batch.images.cpu())
        labels = batch.labels.cpu()
        sheet = draw_attention(
            pictures,
            self._titles(found, labels, few),
            read(found, READING),
            out,
            reading=READING,
            signed=is_signed(READING, masks_are_signed(self.model)),
            originals=read_originals(samples, preprocess),
        )
        return pictures, [self._name_of(label) for label in labels], sheet

    def _titles(self, found: Look, labels: Tensor, few: Examples) -> list[Title]:
        """Of images with these ``labels``."""
        best = found.probabilities.max(dim=1)
        classes = self.dataset.classes
        rows = zip(labels.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
        return [prediction_title(classes[true], classes[predicted], share) for true, predicted, share in rows]

    def _name_of(self, label: Tensor) -> str:
        return self.dataset.classes[int(label)]


LONGEST_NAME = 60  # characters of a class in a file's name


def _save_examples(folder: Path, pictures: Tensor, truth: list[str]) -> None:
    """Save the images of ``attention.png`` as files for ``ran demo`` and ``ran attend``: ``0-<class>.png``.

    Those of an earlier end of the run are replaced; other files in the folder stay.
    """
    own = OwnFiles(folder)
    own.remove_all()
    for i, (picture, label) in enumerate(zip(as_picture(pictures), truth, strict=True)):
        plain = "".join(c if c.isalnum() or c in " -_" else "_" for c in label)[:LONGEST_NAME]
        Image.fromarray(picture).save(own.take(f"{i}-{plain}.png"))
