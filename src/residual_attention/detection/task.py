"""The detection task: the data, the losses and the measure for the core's training loop."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..boxes.annotations import Pictures
from ..checkpoints.card import DETECTION, Card
from ..data.datasets import IMAGENET_MEAN, IMAGENET_STD
from ..data.order import Replica
from ..data.randomness import derive_seed
from ..errors import UserError
from ..family.choices import plugins_needed
from ..names import counted
from ..training.distributed import Processes
from ..training.machine import Machine
from ..training.plan import Plan, absolute, evaluation_batch_size, planned
from ..training.runfolder import RunFolder
from ..training.start import Start
from ..training.task import ImageTask, Prepared, StepLoss, TaskEntry, Validation, held_out
from ..training.trunk import start_weights, with_trunk
from .board import DetectionBoard
from .config import DetectConfig
from .datasets import DetectionDataset, check_same_data, load_detection
from .detectors import Detector, build_body, build_detector, longest_side, wants_small_objects
from .initial import copy_weights, read_backbone
from .loading import DetectionAugment, DetectionBatch, DetectionData, evaluation_images
from .measures import Detections, coco_average_precision, require_evaluator
from .predict import detect_split
from .report import write_detection_report
from .results import DetectionOutcome

LOSSES = {
    "faster_rcnn": ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"),
    "retinanet": ("classification", "bbox_regression"),
    "fcos": ("classification", "bbox_regression", "bbox_ctrness"),
}
_NAMES = {  # torchvision's names of the loss parts, and those in the columns of metrics.csv
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_objectness": "proposal",
    "loss_rpn_box_reg": "proposal_box",
    "classification": "class",
    "bbox_regression": "box",
    "bbox_ctrness": "centre",
}


class DetectionTask(ImageTask):
    """A `Task`: the sum of torchvision's losses; COCO's mean average precision on the validation split."""

    config: DetectConfig
    dataset: DetectionDataset
    data: DetectionData

    def __init__(
        self, plan: Plan[DetectConfig], machine: Machine, processes: Processes, dataset: DetectionDataset, card: Card
    ) -> None:
        self.plan, self.config, self.machine, self.processes = plan, plan.config, machine, processes
        self.dataset, self.card = dataset, card
        config = plan.config
        assert dataset.train is not None
        self.data = DetectionData(
            samples=dataset.train,
            augment=DetectionAugment(
                image_size=config.image_size,
                max_size=longest_side(config),
                flip=config.flip,
                vertical_flip=config.vertical_flip,
                scale_jitter=config.scale_jitter,
                color_jitter=config.color_jitter,
                iou_crop=config.iou_crop,
            ),
            batch_size=config.batch_size,
            seed=config.seed,
            device=machine.device,
            repeats=config.repeats or 1,
            workers=machine.workers,
            replica=Replica(processes.rank, processes.world),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        parts = (f"train_loss_{_NAMES[name]}" for name in LOSSES[self.config.detector])
        return ("train_loss", *parts, "val_map_pct", "val_ap50_pct")

    def image_side(self, progress: float) -> int:
        return self.config.image_size

    def batches(self, epoch: int, first_step: int) -> Iterator[DetectionBatch]:
        return self.data.epoch(epoch, first_step)

    def forward(self, model: nn.Module, batch: DetectionBatch) -> dict[str, Tensor]:
        return model(batch.images, batch.targets)

    def loss(self, output: dict[str, Tensor], batch: DetectionBatch, model: nn.Module) -> StepLoss:
        total = torch.stack([value.float() for value in output.values()]).sum()
        return StepLoss(total, total, {_NAMES[name]: value.float() * len(batch) for name, value in output.items()})

    def detections(self, model: nn.Module, samples: Pictures, precision: torch.dtype) -> list[Detections]:
        """Detections in every image of a split, over all processes."""
        batches = evaluation_images(
            samples,
            image_size=self.config.image_size,
            max_size=longest_side(self.config),
            batch_size=max(1, evaluation_batch_size(self.config, self.processes.world) // 2),
            device=self.machine.device,
            workers=self.machine.workers,
            replica=Replica(self.processes.rank, self.processes.world),
        )
        return detect_split(model, samples, batches, precision=precision)

    def validate(self, model: nn.Module) -> Validation | None:
        """The best epoch has the highest mAP; *plateau* follows it too, as detectors in eval mode return no loss."""
        if self.dataset.val is None:
            return None
        detections = self.detections(model, self.dataset.val, self.machine.validation_dtype)
        found = coco_average_precision(self.dataset.val, detections)
        error = 100.0 - (found["map"] or 0.0)
        return Validation(
            error, error / 100.0, {"val_map_pct": found["map"] or 0.0, "val_ap50_pct": found["ap50"] or 0.0}
        )

    def epoch_figures(self, loss: float, tally: dict[str, float], seen: float) -> dict[str, float]:
        return {"train_loss": loss, **{f"train_loss_{name}": value / seen for name, value in tally.items()}}

    def progress_text(self, tally: dict[str, float], seen: float) -> str:
        return f"boxes {tally['box'] / seen:.3f}  classes {tally['class'] / seen:.3f}"

    def epoch_text(self, row: dict[str, Any]) -> str:
        text = f"train loss {row['train_loss']:.4f}"
        if row.get("val_map_pct") is not None:
            text += f"   val mAP {row['val_map_pct']:.2f} %  AP50 {row['val_ap50_pct']:.2f} %"
        return text

    def files(self) -> dict[str, str]:
        return {"problems.txt": "".join(f"{line}\n" for line in self.dataset.problems.lines)}

    def introduction(self, model: nn.Module) -> list[str]:
        dataset, plan, config = self.dataset, self.plan, self.config
        splits = {name: split for name in ("train", "val", "test") if (split := getattr(dataset, name)) is not None}
        images = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
        boxes = ", ".join(f"{count} {name}" for name, count in sorted(splits["train"].counts().items()))
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        assert isinstance(model, Detector)
        strides = model.pyramid.strides
        return [
            *dataset.problems.lines[:20],
            *([f"... and {len(dataset.problems.lines) - 20} more"] if len(dataset.problems.lines) > 20 else []),
            *(f"note: {notice}" for notice in dataset.notices),
            f"{dataset.name} ({dataset.form.upper()}): {images} images; training boxes: {boxes}",
            f"{config.detector} on {plan.model} ({millions:.2f} M parameters), maps at strides "
            f"{', '.join(map(str, strides))}, short side {config.image_size} px: {counted(plan.epochs, 'epoch')}, "
            f"{counted(plan.total_steps, 'step')} of {config.batch_size}; {self.machine}",
        ]

    def open_board(self, folder: Path, purge_step: int | None) -> DetectionBoard:
        """A board whose pictures follow the first few validation images."""
        watched = None if self.dataset.val is None else self.dataset.val.subset(range(min(4, len(self.dataset.val))))
        detections = partial(self._watched, watched) if watched is not None else None
        return DetectionBoard(folder, self.dataset.classes, watched, detections, purge_step=purge_step)

    def _watched(self, samples: Pictures, model: nn.Module) -> list[Detections]:
        size, longest = self.config.image_size, longest_side(self.config)
        batches = evaluation_images(
            samples, image_size=size, max_size=longest, batch_size=len(samples), device=self.machine.device
        )
        return detect_split(model, samples, batches, shared=False)

    def keep(self, model: nn.Module, epoch: int, folder: RunFolder) -> None:
        """Nothing: the report has the masks of the best weights."""

    def evaluate(self, model: nn.Module) -> DetectionOutcome:
        """Evaluates each held-out split once, in fp32."""
        assert isinstance(model, Detector)
        return DetectionOutcome(
            model=model,
            config=self.config,
            dataset=self.dataset,
            held_out={
                name: self.detections(model, split, torch.float32)
                for name, split in held_out(self.dataset.val, self.dataset.test).items()
            },
            skipped_images=len(self.processes.union(self.skipped)),
        )


def _complete(
    config: DetectConfig, dataset: DetectionDataset, machine: Machine, start: Start | None, *, resumed: bool
) -> Plan[DetectConfig]:
    """The configuration with every None and auto resolved. Raises UserError for incompatible options."""
    assert dataset.train is not None
    if config.norm == "frozen" and start is None and not resumed:
        raise UserError("norm frozen needs the statistics of trained weights; use --init, or leave norm live")
    model = config.model or (start.card.model if start else "attention56")
    options = start.network_options if start is not None and model == start.card.model else {}
    resolved = replace(
        config,
        **{name: value for name, value in options.items() if getattr(config, name) is None},
        data=absolute(config.data),
        init=config.init if resumed else None if start is None else absolute(start.name),
        model=model,
        small_objects=wants_small_objects(config),
        max_size=longest_side(config),
    )
    return planned(resolved, machine, len(dataset.train), validates=dataset.val is not None)


def prepare_detection(config: DetectConfig, machine: Machine, processes: Processes, card: Card | None) -> Prepared:
    """Data, complete configuration and network of a detection run; see `training.task.Prepare`."""
    machine = replace(machine, compile=False, graphs=False)  # the number of boxes varies
    if machine.precision == "fp16":
        if config.precision != "auto":
            raise UserError("detectors are trained in bf16 or fp32; leave --precision fp16 out")
        machine = replace(machine, precision="fp32")
    if config.workers is None and machine.device.type == "cpu":  # decoding takes a few percent of a step, and
        machine = replace(machine, workers=0)  # a worker on one core stalls the threads of the step
    require_evaluator()
    config = with_trunk(config)
    notices: list[str] = []
    start = read_backbone(config, notices) if card is None else None
    known = card or (start and start.card)
    dataset = load_detection(config, known.placed if known else None)
    dataset.notices.extend(notices)
    if card is not None:
        check_same_data(dataset, config, card)
    return _prepare_on(dataset, machine, processes, card, start, config)


def _prepare_on(
    dataset: DetectionDataset,
    machine: Machine,
    processes: Processes,
    card: Card | None,
    start: Start | None,
    config: DetectConfig,
) -> Prepared:
    """`prepare_detection` on data that are already loaded, and from weights that are already read."""
    plan = _complete(config, dataset, machine, start, resumed=card is not None)
    torch.manual_seed(derive_seed(config.seed, "init"))
    fresh = card is None and start is None
    body, overrides = build_body(plan.config, plan.model, pretrained=start_weights(config) if fresh else False)
    described = card or (start.card if start else None)
    mean, std = described.constants if described else (IMAGENET_MEAN, IMAGENET_STD)
    detector = build_detector(plan.config, body, dataset.classes, mean, std)
    copied = [] if start is None else [copy_weights(detector, start)]
    noted = replace(dataset, notices=[*dataset.notices, *copied])
    card = Card(
        task=DETECTION,
        model=plan.model,
        overrides=overrides,
        classes=dataset.classes,
        mean=mean,
        std=std,
        config=plan.config.to_dict(),
        train_images=len(dataset.train or ()),
        plugins=plugins_needed(overrides),
        data_digest=dataset.digest,
        placed=dataset.placed,
    )
    return Prepared(
        plan,
        machine,
        detector,
        DetectionTask(plan, machine, processes, noted, card),
        again=lambda changed: _prepare_on(dataset, machine, processes, None, start, changed),
    )


ENTRY = TaskEntry(
    config=DetectConfig,
    prepare=prepare_detection,
    report=write_detection_report,
    predict_command="ran detect predict",
)
