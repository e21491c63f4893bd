"""The results of a finished multi-label run: mAP, figures and thresholds of each label, pictures."""

from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..attention.figures import label_title, labels_title
from ..attention.readings import Look
from ..attention.rows import Title
from ..checkpoints.confidence import Confidence
from ..training.pictures import Attempts
from ..training.runfolder import RunFolder
from .calibration import measure_thresholds
from .evaluate import Evaluation
from .examples import Chosen, Examples, examples_of_labels
from .figures import draw_precision_recall
from .multilabel import figures_text, mean_ap_pct, multilabel_measures
from .results import EXAMPLES, ClassificationOutcome


class MultilabelOutcome(ClassificationOutcome):
    """A `ClassificationOutcome` of images with any number of labels."""

    @cached_property
    def confidence(self) -> Confidence:
        return measure_thresholds(self.held_out.get("val"), len(self.dataset.classes))

    def compute_figures(self) -> dict[str, Any]:
        return {**super().compute_figures(), "several_labels": True}

    def _few_figures(self, found: Evaluation) -> dict[str, Any]:
        return {"mean_ap_pct": mean_ap_pct(found.probabilities, found.labels)}

    def _split_figures(self, name: str) -> dict[str, Any] | None:
        if (found := self.held_out.get(name)) is None:
            return None
        calibrated = self.confidence.probabilities(found.logits)
        thresholds = self.confidence.thresholds
        return {
            "loss": found.loss,
            **multilabel_measures(calibrated, found.labels, self.dataset.classes, thresholds),
        }

    def final_metrics(self) -> dict[str, float]:
        splits = ("train", "val", "test")
        return {f"{name}_map_pct": float(part["mean_ap_pct"]) for name in splits if (part := self.figures[name])}

    def lines(self) -> list[str]:
        lines = [
            f"{name:>5}  {figures_text(part)}   loss {part['loss']:.4f}   {part['images']} images"
            for name in ("train", "val", "test")
            if (part := self.figures[name])
        ]
        if self.confidence.images:
            lines.append(f"each label's threshold has the largest F1 on {self.confidence.images} validation images")
        return lines

    def _draw_measures(self, folder: RunFolder, name: str, attempts: Attempts) -> dict[str, Path]:
        found, out = self.held_out[name], folder.path / "precision_recall.png"
        with attempts.attempt(out.name):
            calibrated = self.confidence.probabilities(found.logits)
            draw_precision_recall(calibrated, found.labels, self.figures[name]["per_class"], out)
        return {"precision and recall": out} if out.is_file() else {}

    def _chosen_examples(self, found: Evaluation) -> Chosen:
        shares = self.confidence.probabilities(found.logits)
        return examples_of_labels(found, self.confidence.given(shares), shares, EXAMPLES)

    def _titles(self, found: Look, labels: Tensor, few: Examples) -> list[Title]:
        """All labels of each image or, of examples that are drawn for a label, that one."""
        shares = self.confidence.probabilities(found.logits)
        given, classes = self.confidence.given(shares), self.dataset.classes
        if few.labels is not None:
            return [
                label_title(classes[k], float(shares[i, k]), bool(given[i, k]), bool(labels[i, k]))
                for i, k in enumerate(few.labels.tolist())
            ]
        return [
            labels_title(
                self._names(truth.bool()),
                sorted(
                    ((classes[k], float(row[k])) for k in chosen.nonzero()[:, 0].tolist()), key=lambda pair: -pair[1]
                ),
            )
            for truth, row, chosen in zip(labels, shares, given, strict=True)
        ]

    def _names(self, chosen: Tensor) -> list[str]:
        return [self.dataset.classes[k] for k in chosen.nonzero()[:, 0].tolist()]

    def _name_of(self, label: Tensor) -> str:
        return " ".join(self._names(label.bool())) or "none"
