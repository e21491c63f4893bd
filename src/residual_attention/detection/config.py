"""The complete configuration of a detector's run."""

from dataclasses import dataclass
from typing import Literal

from ..errors import UserError
from ..training.config import RunConfig, check_between, check_least

DetectorName = Literal["faster_rcnn", "retinanet", "fcos"]
Norm = Literal["live", "frozen"]


@dataclass(frozen=True)
class DetectConfig(RunConfig):
    """Everything that decides the training of a detector."""

    data: str = ""
    """A folder of images with VOC, COCO or YOLO annotations or a CSV of boxes."""
    model: str | None = None
    """Backbone: any network of `ran models` or of timm (resnet50, convnext_tiny, ...); that of --init by default."""
    detector: DetectorName = "faster_rcnn"
    """faster_rcnn | retinanet | fcos, on a feature pyramid over the backbone's stages."""
    init: str | None = "auto"
    """Start from this MODEL: a classifier gives the backbone, a detector of ours everything that fits; none: fresh;
    auto: the weights that ship, unless another network is asked for."""
    problems: Literal["skip", "stop"] = "skip"
    """What to do about boxes and images that the sanity pass finds wrong: leave them out, or stop before training."""

    # Data
    image_size: int = 320
    """Short side of the images in pixels, as the network reads them."""
    max_size: int | None = None
    """Longest long side in pixels; twice the short side by default."""
    val_fraction: float = 0.1
    """Share of the training images held out for validation when the data has no validation split."""
    test_fraction: float = 0.0
    """Share of the images held out for the test when the data has neither a test nor a validation split; 0: none."""
    limit_train: int | None = None
    """Use only this many training images."""

    # Detector
    norm: Norm = "live"
    """Batch normalisation of the backbone: live, or frozen with the statistics and weights of --init."""
    small_objects: bool | None = None
    """A level finer than stride 8 and anchors half as large; on by default up to 480 px."""
    fpn_channels: int = 128
    """Channels of the feature pyramid (256 in the usual large detectors)."""
    head_channels: int = 512
    """Faster R-CNN: width of the two layers that read a region (1024 in the usual large detector)."""
    score_threshold: float = 0.05
    """Boxes of a lower score are not reported."""
    max_boxes: int = 100
    """Most boxes reported for one image."""

    # Augmentation
    flip: bool = True
    """Mirror half of the images."""
    vertical_flip: bool = False
    """Turn half of the images upside down (microscopy, aerial images)."""
    scale_jitter: float = 0.2
    """Draw the short side between (1 - this) and (1 + this) of --image-size."""
    color_jitter: float = 0.2
    """Strength of brightness, contrast, saturation jitter; hue takes a tenth of it."""
    iou_crop: float = 0.0
    """Share of images cropped so that boxes keep a least overlap (SSD's crop)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, {"val_fraction": (0, 0.9), "test_fraction": (0, 0.9), "scale_jitter": (0, 0.9)})
        check_between(self, {"score_threshold": (0, 1), "color_jitter": (0, 1), "iou_crop": (0, 1)})
        check_least(self, {"image_size": 32, "limit_train": 1, "fpn_channels": 8, "head_channels": 8, "max_boxes": 1})
        if self.max_size is not None and self.max_size < self.image_size:
            raise UserError(f"max_size must be at least image_size ({self.image_size}), not {self.max_size}")
        if self.detector == "fcos" and (self.fpn_channels % 32 or self.fpn_channels < 64):  # it normalises 32 groups
            raise UserError(f"fpn_channels must be 64, 96, 128, ... for fcos, not {self.fpn_channels}")
        if self.compile == "on":
            raise UserError("a detector's steps have boxes of changing number and are not compiled; leave compile out")


def detect_defaults() -> DetectConfig:
    """Defaults of ``ran detect train``: AdamW with warm-up and cosine, averaged weights, at least 600 steps.

    They hold out a test split; the field's own default is what configurations written before it meant.
    """
    return DetectConfig(
        test_fraction=0.1,
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
