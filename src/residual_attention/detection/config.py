"""The complete configuration of a detection run."""

from dataclasses import dataclass
from typing import Literal

from ..data.request import MAX_IMAGE_SIZE, SplitRule
from ..errors import UserError
from ..training.config import RunConfig, check_between, check_least

DetectorName = Literal["faster_rcnn", "retinanet", "fcos"]
Norm = Literal["live", "frozen"]


@dataclass(frozen=True)
class DetectConfig(RunConfig):
    """Everything that decides the training of a detector."""

    data: str = ""
    """A folder of images with VOC, COCO or YOLO annotations, or with a CSV of boxes."""
    model: str | None = None
    """Backbone: any network of `ran models` or of timm (resnet50, convnext_tiny, ...); by default that of --init."""
    detector: DetectorName = "faster_rcnn"
    """faster_rcnn | retinanet | fcos, on a feature pyramid over the backbone's stages."""
    init: str | None = "auto"
    """Start from this MODEL: a classifier provides the backbone, a detector every tensor that fits; none: from scratch;
    auto: the shipped weights, unless another network is requested."""
    problems: Literal["skip", "stop"] = "skip"
    """What to do about faulty boxes and images found by the sanity pass: skip them, or stop before training."""

    # Data
    image_size: int = 320
    """Short side of the network's input images in pixels."""
    max_size: int | None = None
    """Maximum long side in pixels; by default twice the short side."""
    val_fraction: float = 0.1
    """Fraction of the training images held out for validation when the data has no validation split."""
    test_fraction: float = 0.0
    """Fraction of the images held out for testing when the data has neither a test nor a validation split; 0: none."""
    split_rule: SplitRule = "shuffle"
    """How missing splits are made: content (an image's split depends on its content and the seed, so adding images
    moves no others) or shuffle (as earlier runs did)."""
    limit_train: int | None = None
    """Use only this many training images."""

    # Detector
    norm: Norm = "live"
    """Batch normalisation of the backbone: live, or frozen at the statistics and weights of --init."""
    small_objects: bool | None = None
    """Start one level finer than stride 8, with anchors of half the size; on by default up to 480 px."""
    fpn_channels: int = 128
    """Channels of the feature pyramid (usually 256 in large detectors)."""
    head_channels: int = 512
    """Faster R-CNN: width of the head's two layers (usually 1024 in large detectors)."""
    score_threshold: float = 0.05
    """Boxes with a lower score are not reported."""
    max_boxes: int = 100
    """Maximum number of boxes reported per image."""

    # Augmentation
    flip: bool = True
    """Flip half of the images horizontally."""
    vertical_flip: bool = False
    """Flip half of the images vertically (microscopy, aerial images)."""
    scale_jitter: float = 0.2
    """Draw the short side between (1 - this) and (1 + this) times --image-size."""
    color_jitter: float = 0.2
    """Strength of the brightness, contrast and saturation jitter; hue gets a tenth of it."""
    iou_crop: float = 0.0
    """Fraction of images that are cropped with a minimum overlap with the boxes (SSD's crop)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, {"val_fraction": (0, 0.9), "test_fraction": (0, 0.9), "scale_jitter": (0, 0.9)})
        check_between(self, {"score_threshold": (0, 1), "color_jitter": (0, 1), "iou_crop": (0, 1)})
        check_between(
            self, {"image_size": (32, MAX_IMAGE_SIZE), "fpn_channels": (8, 4096), "head_channels": (8, 65_536)}
        )
        check_between(self, {"max_boxes": (1, 100_000)})
        check_least(self, {"limit_train": 1})
        if self.max_size is not None:
            check_between(self, {"max_size": (32, 2 * MAX_IMAGE_SIZE)})
        if self.max_size is not None and self.max_size < self.image_size:
            raise UserError(f"max_size must be at least image_size ({self.image_size}), not {self.max_size}")
        if self.detector == "fcos" and (self.fpn_channels % 32 or self.fpn_channels < 64):  # it normalises 32 groups
            raise UserError(f"fpn_channels must be 64, 96, 128, ... for fcos, not {self.fpn_channels}")
        if self.compile == "on":
            raise UserError("detectors cannot be compiled: the number of boxes varies by step; leave compile out")


def detect_defaults() -> DetectConfig:
    """Defaults of ``ran detect train``: AdamW with warm-up and cosine decay, averaged weights, at least 600 steps.

    They hold out a test split, by content. The fields' defaults do not, for configurations written before them.
    """
    return DetectConfig(
        test_fraction=0.1,
        split_rule="content",
        epochs=20,
        min_steps=600,
        batch_size=4,
        lr=5e-4,
        optimizer="adamw",
        weight_decay=0.01,
        decay_norm_and_bias=False,
        warmup_epochs=1.0,
        clip_grad=10.0,
        ema=0.99,
    )
