"""The classification task: data, loss and figures for the core's loop."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..attention.guidance import guided_energy
from ..checkpoints.card import Card
from ..checkpoints.confidence import Confidence
from ..data.augment import progressive_size
from ..data.datasets import Dataset
from ..data.digest import difference
from ..data.load import load_dataset
from ..data.loading import TrainBatch, TrainingData, evaluation_batches
from ..data.order import Replica
from ..data.placement import Placed
from ..data.preprocess import Preprocess
from ..data.request import DataRequest
from ..data.splits import evenly_spaced
from ..data.strengths import Augment
from ..errors import UserError
from ..family.choices import plugins_needed
from ..names import counted
from ..training.distributed import Processes
from ..training.machine import Machine
from ..training.plan import Plan, evaluation_batch_size
from ..training.runfolder import RunFolder
from ..training.start import Start
from ..training.task import ImageTask, Prepared, StepLoss, TaskEntry, Validation, held_out
from ..training.trunk import start_weights, with_trunk
from ..trunks.create import constructor
from .board import ClassifierBoard
from .calibration import MOST_IMAGES, likeness_notices, measure_likeness, measure_thresholds, records_likeness
from .config import TrainConfig
from .development import keep_masks, kept_epochs
from .evaluate import evaluate
from .guide import GUIDE_COLUMNS, MOST_GUIDED, guide_figures, guided
from .initial import copy_weights, prepared_for_trunk, read_classifier, started_from
from .judging import judging, label_notices
from .multilabel_results import MultilabelOutcome
from .plan import build_model, make_plan
from .report import rebuild_report
from .results import ClassificationOutcome


def _training_data(plan: Plan[TrainConfig], machine: Machine, processes: Processes, dataset: Dataset) -> TrainingData:
    config = plan.config
    assert dataset.train is not None
    return TrainingData(
        samples=dataset.train,
        preprocess=dataset.preprocess,
        augment=config.section(Augment),
        num_classes=len(dataset.classes),
        batch_size=config.batch_size,
        seed=config.seed,
        device=machine.device,
        balanced=config.balanced_sampling,
        repeats=config.repeats or 1,
        skip_bad=config.skip_bad_images,
        workers=machine.workers,
        replica=Replica(processes.rank, processes.world),
        regions=dataset.regions,
    )


TRAIN_IMAGES_EVALUATED = 10_000  # at most, at the end of a run


class ClassificationTask(ImageTask):
    """A `Task`: what the data's labels are, one class per image or several, `Judging` knows."""

    config: TrainConfig
    dataset: Dataset
    data: TrainingData

    def __init__(
        self,
        plan: Plan[TrainConfig],
        machine: Machine,
        processes: Processes,
        dataset: Dataset,
        card: Card,
        min_size: int,
    ) -> None:
        self.plan, self.config, self.machine, self.processes = plan, plan.config, machine, processes
        self.dataset, self.card, self.min_size = dataset, card, min_size
        self.data = _training_data(plan, machine, processes, dataset)
        self.judging = judging(dataset.several)
        self.class_weights = None
        if self.config.class_weights:
            weights = self.judging.weights(self.data.samples.labels, len(dataset.classes))
            self.class_weights = weights.to(machine.device)
        assert dataset.val is None or len(dataset.val) > 0
        self._validation = None if dataset.val is None else partial(self.evaluation, dataset.val)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.judging.columns, *([] if self.dataset.regions is None else GUIDE_COLUMNS))

    @property
    def evaluated_images(self) -> tuple[int, int]:
        val, at_end = super().evaluated_images
        return val, min(len(self.data.samples), TRAIN_IMAGES_EVALUATED) + at_end

    def image_side(self, progress: float) -> int:
        full, config = self.data.preprocess.image_size, self.config
        return progressive_size(full, config.progressive, progress, self.min_size, config.progressive_multiple)

    def batches(self, epoch: int, first_step: int) -> Iterator[TrainBatch]:
        return self.data.epoch(epoch, first_step, self.image_side(epoch / self.plan.epochs))

    def forward(self, model: nn.Module, batch: TrainBatch) -> Tensor:
        images = batch.images
        if self.machine.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return model(images)

    def loss(self, output: Tensor, batch: TrainBatch, model: nn.Module) -> StepLoss:
        """The loss in fp32; the objective adds the classifier's L2 penalty."""
        objective, loss = self.judging.losses(
            output.float(), batch.targets, self.class_weights, self.config.label_smoothing
        )
        if self.config.classifier_l2:
            objective = objective + self.config.classifier_l2 * model.get_classifier().weight.square().sum()  # type: ignore[operator,union-attr]
        tally = self.judging.tally(output.detach(), batch.targets)
        if batch.regions is not None and batch.labels is not None:
            inside, guided = guided_energy(
                model, batch.images, batch.labels, batch.regions, dtype=self.machine.dtype, at_most=MOST_GUIDED
            )
            objective = objective + self.config.guide_weight * (guided - inside) / guided.clamp(min=1)
            tally |= {"inside": inside.detach(), "guided": guided}
        return StepLoss(objective, loss, tally)

    def evaluation(self, samples: Any, *, skip_bad: bool = False):
        """Batches of a whole split over all processes."""
        return evaluation_batches(
            samples,
            self.dataset.preprocess,
            batch_size=evaluation_batch_size(self.config, self.processes.world),
            device=self.machine.device,
            workers=self.machine.workers,
            replica=Replica(self.processes.rank, self.processes.world),
            skip_bad=skip_bad,
        )

    def validate(self, model: nn.Module) -> Validation | None:
        if self._validation is None:
            return None
        return self.judging.validation(evaluate(model, self._validation(), precision=self.machine.validation_dtype))

    def epoch_figures(self, loss: float, tally: dict[str, float], seen: float) -> dict[str, float]:
        guide = {} if self.dataset.regions is None else guide_figures(tally)
        return {"train_loss": loss, **self.judging.figures(tally, seen), **guide}

    def progress_text(self, tally: dict[str, float], seen: float) -> str:
        return self.judging.text(self.judging.figures(tally, seen), "train")

    def epoch_text(self, row: dict[str, Any]) -> str:
        text = f"train loss {row['train_loss']:.4f}  {self.judging.text(row, 'train')}"
        if row.get("val_loss") is not None:
            text += f"   val loss {row['val_loss']:.4f}  {self.judging.text(row, 'val')}"
        return text

    def files(self) -> dict[str, str]:
        return {}

    def introduction(self, model: nn.Module) -> list[str]:
        dataset, plan = self.dataset, self.plan
        sizes = {name: len(split) for name in ("train", "val", "test") if (split := getattr(dataset, name)) is not None}
        images = ", ".join(f"{count} {name}" for name, count in sizes.items())
        kinds = f"with {len(dataset.classes)} labels" if dataset.several else f"of {len(dataset.classes)} classes"
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        length = f"{counted(plan.epochs, 'epoch')}, {counted(plan.total_steps, 'step')}"
        return [
            *(f"note: {notice}" for notice in dataset.notices),
            f"{dataset.name}: {images} images {kinds}, {dataset.preprocess.image_size} px",
            f"{plan.model} ({millions:.2f} M parameters), recipe {plan.config.recipe}: {length} of "
            f"{plan.config.batch_size}{_epoch_text(plan.config)}; {self.machine}",
        ]

    def open_board(self, folder: Path, purge_step: int | None) -> ClassifierBoard:
        """The board watches the first few validation images."""
        watched, val = None, self.dataset.val
        if val is not None:
            batches = evaluation_batches(
                val, self.dataset.preprocess, batch_size=min(8, len(val)), device=self.machine.device
            )
            watched = next(iter(batches)).images
        return ClassifierBoard(folder, self.dataset.preprocess, watched, purge_step=purge_step)

    def keep(self, model: nn.Module, epoch: int, folder: RunFolder) -> None:
        """Keep the masks of a few validation images at fixed epochs, for the report."""
        if epoch in kept_epochs(self.plan.epochs):
            keep_masks(model, self.dataset, epoch, folder.development)

    def evaluate(self, model: nn.Module) -> ClassificationOutcome:
        """Evaluate every split once, in fp32, so that results do not depend on the machine."""
        samples = self.data.samples
        train = samples.subset(evenly_spaced(len(samples), TRAIN_IMAGES_EVALUATED))
        outcome = MultilabelOutcome if self.dataset.several else ClassificationOutcome
        return outcome(
            model=model,
            config=self.config,
            dataset=self.dataset,
            train=evaluate(model, self.evaluation(train, skip_bad=self.config.skip_bad_images)),
            held_out={
                name: evaluate(model, self.evaluation(split))
                for name, split in held_out(self.dataset.val, self.dataset.test).items()
            },
            alike=self._likeness(model),
            skipped_images=len(self.processes.union(self.skipped)) + self.dataset.skipped,
        )

    def _likeness(self, model: nn.Module) -> Confidence:
        """Every process measures the same images by itself."""
        val = self.dataset.val
        if val is None or not records_likeness(model, self.dataset):
            return Confidence()
        few = val.subset(evenly_spaced(len(val), MOST_IMAGES))
        batch_size = evaluation_batch_size(self.config, 1)
        return measure_likeness(
            model,
            evaluation_batches(few, self.dataset.preprocess, batch_size=batch_size, device=self.machine.device),
        )


def _epoch_text(config: TrainConfig) -> str:
    """How often an epoch reads the images, if more than once."""
    repeats = config.repeats or 1
    return "" if repeats == 1 else f" (an epoch reads every image {repeats} times)"


def _load_dataset(
    config: TrainConfig, processes: Processes, preprocess: Preprocess | None, placed: Placed | None
) -> Dataset:
    """Let rank 0 go first if something may be downloaded, so that it is downloaded once."""
    downloads = config.data_dir is None and config.data in ("cifar10", "cifar100")
    if downloads and not processes.is_main:
        processes.barrier()
    dataset = load_dataset(config.section(DataRequest), preprocess, placed=placed)
    if downloads and processes.is_main:
        processes.barrier()
    return dataset


def _same_data(config: TrainConfig, dataset: Dataset, card: Card) -> None:
    if tuple(dataset.classes) != card.classes or len(dataset.train or ()) != card.train_images:
        raise UserError(
            f"{config.data} has changed since the run started: {len(dataset.train or ())} training images of "
            f"{len(dataset.classes)} classes now, {card.train_images} of {len(card.classes)} then"
        )
    if changed := difference(card.data_digest, dataset.digest):
        raise UserError(
            f"{config.data} has changed since the run started: {changed} differ; restore them, or start a new run with "
            f"`ran train {config.data} --init RUN`"
        )


def prepare_classification(config: TrainConfig, machine: Machine, processes: Processes, card: Card | None) -> Prepared:
    """Data, complete configuration and network of a classifier's run; see `training.task.Prepare`."""
    config = with_trunk(config)
    if config.model is not None:
        constructor(config.model)  # a misspelt name is reported before the data are read
    start = read_classifier(config) if card is None else None  # on a resume the weights come from the checkpoint
    if start is not None:
        config = started_from(config, start)
    known = card or (start and start.card)
    config, preprocess = prepared_for_trunk(config, None if card is None else card.preprocess)
    dataset = _load_dataset(config, processes, preprocess, known.placed if known else None)
    if config.guide is not None:
        dataset = guided(dataset, config)
    return prepare_on(dataset, config, machine, processes, card, start)


def prepare_on(
    dataset: Dataset,
    config: TrainConfig,
    machine: Machine,
    processes: Processes,
    card: Card | None,
    start: Start | None = None,
) -> Prepared:
    """`prepare_classification` on data that are already loaded, and from weights that are already read."""
    if dataset.val is not None and len(dataset.val) == 0:
        dataset = replace(dataset, val=None)
    judged = judging(dataset.several)
    judged.check(config)
    if card is not None:
        _same_data(config, dataset, card)
    plan = make_plan(config, dataset, machine)
    fresh = card is None and start is None
    model, overrides = build_model(plan, len(dataset.classes), start_weights(config) if fresh else False)
    copied = [] if start is None else [copy_weights(model, start, dataset.several)]
    assert dataset.train is not None
    counts = judged.counts(dataset.train.labels, len(dataset.classes))
    labels = label_notices(dataset.classes, counts, len(dataset.train), dataset.several)
    noted = replace(dataset, notices=[*dataset.notices, *copied, *labels, *likeness_notices(model, dataset)])
    card = Card(
        model=plan.model,
        overrides=overrides,
        classes=tuple(dataset.classes),
        preprocess=dataset.preprocess,
        config=plan.config.to_dict(),
        train_images=len(dataset.train or ()),
        plugins=plugins_needed(overrides),
        data_digest=dataset.digest,
        placed=dataset.placed,
        confidence=measure_thresholds(None, len(dataset.classes)) if dataset.several else Confidence(),
    )
    return Prepared(
        plan,
        machine,
        model,
        ClassificationTask(plan, machine, processes, noted, card, model.min_size),
        again=lambda changed: prepare_on(dataset, changed, machine, processes, None, start),
    )


ENTRY = TaskEntry(
    config=TrainConfig, prepare=prepare_classification, report=rebuild_report, predict_command="ran predict"
)
