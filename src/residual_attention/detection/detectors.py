"""torchvision's detectors on our feature pyramid."""

from math import log2
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from ..checkpoints.card import Card
from ..errors import UserError
from ..trunks.backbone import Weights
from ..trunks.create import create_model, list_models
from ..trunks.network import TrunkNetwork
from .backbone import LEVELS, PyramidBackbone, timm_body
from .config import DetectConfig

RATIOS = (0.5, 1.0, 2.0)  # height / width
ROI_CELLS = 7  # per side of a region
SMALL_IMAGES_PX = 480


class BaseDetector(nn.Module):
    """Anything that finds boxes: one of our networks, or an exported one in its place.

    ``forward(images)`` in eval mode takes a list of (3, h, w) float32 in [0, 1]. For each it returns ``boxes`` (N, 4)
    in its pixels, ``labels`` (N,) from 1 and ``scores`` (N,). Images have a short side of ``image_size`` px, or a long
    side of ``max_size`` px where that makes them smaller. ``card`` is the checkpoint's.
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
    """A torchvision detector; in training mode ``forward(images, targets)`` returns a dictionary of losses."""

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


def build_body(
    config: DetectConfig, model: str, in_chans: int = 3, pretrained: Weights = False
) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone without a classifier, and its `create_model` arguments; names that are not ours go to `timm_body`.

    Raises UserError for an unknown name, or an option that the network does not have.
    """
    options = config.network_overrides()
    if model not in list_models():
        if options:
            raise UserError(f"{model} is not one of our networks, so it does not take {', '.join(options)}")
        return _recomputing(timm_body(model, in_chans), model, config.grad_checkpointing), {}
    overrides = {"num_classes": 0, "in_chans": in_chans, **options}
    network = create_model(model, pretrained=pretrained, **overrides)
    network.set_grad_checkpointing(config.grad_checkpointing)
    if isinstance(network, TrunkNetwork):
        overrides |= network.resolved
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in overrides.items()}
    return network, plain


def _recomputing(body: nn.Module, model: str, enable: bool) -> nn.Module:
    """timm's network, with gradient checkpointing if ``enable``. Raises UserError if it does not support that."""
    if enable:
        switch: Any = getattr(getattr(body, "model", body), "set_grad_checkpointing", None)  # some are wrapped
        if switch is None:
            raise UserError(f"{model} does not support gradient checkpointing; leave --grad-checkpointing out")
        switch(True)
    return body


def build_detector(
    config: DetectConfig, body: nn.Module, classes: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> Detector:
    """The detector named in the configuration, with newly initialised heads.

    Faster R-CNN (Ren et al., 2015) starts at stride 4, the one-stage RetinaNet and FCOS at stride 8; with small
    objects, these two start one level finer. The settings are torchvision's unless given here.
    """
    backbone = PyramidBackbone(
        body, config.fpn_channels, finest_stride=_finest_stride(config), frozen=config.norm == "frozen"
    )
    images: dict[str, Any] = {
        "min_size": config.image_size,
        "max_size": longest_side(config),
        "image_mean": list(mean),
        "image_std": list(std),
        "_skip_resize": True,  # in training; the data is already resized
    }
    outputs = len(classes) + 1  # 0 is the background
    network = NETWORKS[config.detector](config, backbone, outputs, images)
    for head in _heads(network):
        head.register_forward_hook(_as_float32)
    return Detector(network, classes, config.image_size, longest_side(config))


def _finest_stride(config: DetectConfig) -> int:
    if config.detector == "faster_rcnn":
        return 4
    return 4 if wants_small_objects(config) else 8


def _heads(network: nn.Module) -> tuple[nn.Module, ...]:
    """The modules whose outputs become scores and boxes."""
    if isinstance(network, FasterRCNN):
        return network.rpn.head, network.roi_heads.box_predictor  # type: ignore[return-value]
    return (network.head,)  # type: ignore[return-value]


def _as_float32(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """A head's output in float32: bf16 resolves a corner at 300 px only to 2 px, and scores tie."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _as_float32(_module, _inputs, value) for name, value in output.items()}
    return type(output)(_as_float32(_module, _inputs, value) for value in output)


def _faster_rcnn(config: DetectConfig, backbone: PyramidBackbone, outputs: int, images: dict[str, Any]) -> nn.Module:
    """Fewer proposals and a narrower head than torchvision's, because the images are smaller."""
    small = wants_small_objects(config)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=_one_size(backbone.strides, 4 if small else 8),
        rpn_pre_nms_top_n_train=1000,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_train=500,
        rpn_post_nms_top_n_test=300,
        box_roi_pool=_roi_pool(backbone, 112 if small else 224),
        box_head=TwoMLPHead(config.fpn_channels * ROI_CELLS**2, config.head_channels),
        box_predictor=FastRCNNPredictor(config.head_channels, outputs),
        box_batch_size_per_image=128,
        box_score_thresh=config.score_threshold,
        box_detections_per_img=config.max_boxes,
        **images,
    )


def _retinanet(config: DetectConfig, backbone: PyramidBackbone, outputs: int, images: dict[str, Any]) -> nn.Module:
    return RetinaNet(
        backbone,
        outputs,
        anchor_generator=_three_sizes(backbone.strides, 2 if wants_small_objects(config) else 4),
        score_thresh=config.score_threshold,
        detections_per_img=config.max_boxes,
        **images,
    )


def _fcos(config: DetectConfig, backbone: PyramidBackbone, outputs: int, images: dict[str, Any]) -> nn.Module:
    """FCOS has no anchors: torchvision uses squares the size of the strides."""
    return FCOS(
        backbone,
        outputs,
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in backbone.strides), ((1.0,),) * LEVELS),
        score_thresh=config.score_threshold,
        detections_per_img=config.max_boxes,
        **images,
    )


NETWORKS = {"faster_rcnn": _faster_rcnn, "retinanet": _retinanet, "fcos": _fcos}


def _one_size(strides: list[int], factor: int) -> AnchorGenerator:
    """Anchors of ``factor`` strides on each level, in three aspect ratios."""
    return AnchorGenerator(tuple((factor * stride,) for stride in strides), (RATIOS,) * len(strides))


def _three_sizes(strides: list[int], factor: int) -> AnchorGenerator:
    """RetinaNet's (Lin et al., 2017): per level, ``factor`` strides and two more sizes, a third of an octave apart."""
    sizes = tuple(tuple(round(factor * stride * 2 ** (i / 3)) for i in range(3)) for stride in strides)
    return AnchorGenerator(sizes, (RATIOS,) * len(strides))


def _roi_pool(backbone: PyramidBackbone, canonical_px: int) -> MultiScaleRoIAlign:
    """Regions of ``canonical_px`` are read at stride 16 (Lin et al., 2017), from all levels but the coarsest.

    By default, torchvision infers the scales from the first images and keeps them. With small images, padding makes
    the scales wrong by a factor of two.
    """
    used = backbone.strides[:-1]
    pool = MultiScaleRoIAlign(backbone.level_names[:-1], ROI_CELLS, sampling_ratio=2, canonical_scale=canonical_px)
    pool.scales = [1 / stride for stride in used]
    pool.map_levels = initLevelMapper(int(log2(used[0])), int(log2(used[-1])), canonical_scale=canonical_px)
    return pool
