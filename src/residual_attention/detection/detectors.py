"""torchvision's detectors over our pyramid."""

from math import log2
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from ..checkpoints.card import Card
from ..family import create_model
from .backbone import LEVELS, PyramidBackbone, TorchvisionResNet50
from .config import DetectConfig

RATIOS = (0.5, 1.0, 2.0)  # height / width
PEER = "resnet50"
SMALL_IMAGES_PX = 480


class BaseDetector(nn.Module):
    """What finds boxes: a network of ours, or an exported one in its place.

    ``forward(images)`` in eval mode takes a list of (3, h, w) float32 in [0, 1] and gives for each ``boxes`` (N, 4) in
    its pixels, ``labels`` (N,) from 1 and ``scores`` (N,). Images come with a short side of ``image_size`` px, or a
    long one of ``max_size`` px where that is smaller. ``card`` is the checkpoint's.
    """

    def __init__(self, classes: tuple[str, ...], image_size: int, max_size: int, card: Card | None) -> None:
        super().__init__()
        self.classes, self.image_size, self.max_size, self._card = classes, image_size, max_size, card

    @property
    def card(self) -> Card:
        assert self._card is not None, "an untrained detector has no card"
        return self._card

    @card.setter
    def card(self, card: Card) -> None:
        self._card = card


class Detector(BaseDetector):
    """A torchvision detector; in training mode ``forward(images, targets)`` gives its dictionary of losses."""

    def __init__(self, network: nn.Module, classes: tuple[str, ...], image_size: int, max_size: int) -> None:
        super().__init__(classes, image_size, max_size, None)
        self.network = network

    @property
    def pyramid(self) -> PyramidBackbone:
        return self.network.backbone  # type: ignore[return-value]

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        return self.network(images, targets)


def wants_small_objects(config: DetectConfig) -> bool:
    return config.image_size <= SMALL_IMAGES_PX if config.small_objects is None else config.small_objects


def longest_side(config: DetectConfig) -> int:
    return config.max_size or 2 * config.image_size


def build_body(config: DetectConfig, model: str, in_chans: int = 3) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone without a classifier, and its `create_model` arguments."""
    if model == PEER:
        return TorchvisionResNet50(), {}
    overrides = {"num_classes": 0, "in_chans": in_chans, **config.network_overrides()}
    body = create_model(model, **overrides)
    body.set_grad_checkpointing(config.grad_checkpointing)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in overrides.items()}
    return body, plain


def _anchors(strides: list[int], small: bool) -> AnchorGenerator:
    """One size a level, in pixels: eight strides, half of it for small objects; three ratios."""
    factor = 4 if small else 8
    return AnchorGenerator(tuple((factor * stride,) for stride in strides), (RATIOS,) * len(strides))


def build_detector(
    config: DetectConfig, body: nn.Module, classes: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> Detector:
    """The detector named in the configuration, its heads freshly initialised.

    Faster R-CNN (Ren et al., 2015) starts at stride 4, the one-stage RetinaNet and FCOS at stride 8; small objects
    start one level finer there. The usual settings otherwise: torchvision's.
    """
    small, one_stage = wants_small_objects(config), config.detector != "faster_rcnn"
    finest = (8 if one_stage else 4) // (2 if small and one_stage else 1)
    backbone = PyramidBackbone(body, config.fpn_channels, finest_stride=finest, frozen=config.norm == "frozen")
    longest = longest_side(config)
    common: dict[str, Any] = {
        "min_size": config.image_size,
        "max_size": longest,
        "image_mean": list(mean),
        "image_std": list(std),
        "_skip_resize": True,  # in training; the data come at their size
    }
    outputs = len(classes) + 1  # 0 is the background
    if config.detector == "faster_rcnn":
        levels = [str(i) for i in range(len(backbone.indices))] + [
            f"coarser{i}" for i in range(LEVELS - len(backbone.indices) - 1)
        ]
        network: nn.Module = FasterRCNN(
            backbone,
            rpn_anchor_generator=_anchors(backbone.strides, small),
            rpn_pre_nms_top_n_train=1000,
            rpn_pre_nms_top_n_test=500,
            rpn_post_nms_top_n_train=500,
            rpn_post_nms_top_n_test=300,
            box_roi_pool=_roi_pool(levels, backbone.strides, 112 if small else 224),
            box_head=TwoMLPHead(config.fpn_channels * 49, config.head_channels),
            box_predictor=FastRCNNPredictor(config.head_channels, outputs),
            box_batch_size_per_image=128,
            box_score_thresh=config.score_threshold,
            box_detections_per_img=config.max_boxes,
            **common,
        )
    elif config.detector == "retinanet":
        network = RetinaNet(
            backbone,
            outputs,
            anchor_generator=_three_scales(backbone.strides, small),
            score_thresh=config.score_threshold,
            detections_per_img=config.max_boxes,
            **common,
        )
    else:
        network = FCOS(
            backbone,
            outputs,
            anchor_generator=AnchorGenerator(tuple((stride,) for stride in backbone.strides), ((1.0,),) * LEVELS),
            score_thresh=config.score_threshold,
            detections_per_img=config.max_boxes,
            **common,
        )
    for head in (network.rpn.head, network.roi_heads.box_predictor) if not one_stage else (network.head,):  # type: ignore[union-attr]
        head.register_forward_hook(_as_float32)  # type: ignore[union-attr]
    return Detector(network, classes, config.image_size, longest)


def _roi_pool(levels: list[str], strides: list[int], canonical_px: int) -> MultiScaleRoIAlign:
    """Regions of ``canonical_px`` are read at stride 16 (Lin et al., 2017).

    Left alone, torchvision takes the scales from the first images that it sees, and keeps them: padding makes them
    wrong by a factor of two where those are small.
    """
    pool = MultiScaleRoIAlign(levels, 7, sampling_ratio=2, canonical_scale=canonical_px)
    used = strides[: len(levels)]
    pool.scales = [1 / stride for stride in used]
    pool.map_levels = initLevelMapper(int(log2(used[0])), int(log2(used[-1])), canonical_scale=canonical_px)
    return pool


def _as_float32(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """A head's output in float32: in bf16 a corner at 300 px lies no better than 2 px, and scores tie."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _as_float32(_module, _inputs, value) for name, value in output.items()}
    return type(output)(_as_float32(_module, _inputs, value) for value in output)


def _three_scales(strides: list[int], small: bool) -> AnchorGenerator:
    """RetinaNet's (Lin et al., 2017): sizes a third of an octave apart on each level."""
    factor = 2 if small else 4
    sizes = tuple(tuple(round(factor * s * 2 ** (i / 3)) for i in range(3)) for s in strides)
    return AnchorGenerator(sizes, (RATIOS,) * len(strides))
