"""Where a detector's weights come from: one of our classifiers for the backbone, or another detector."""

from ..checkpoints.card import DETECTION
from ..checkpoints.format import CheckpointError
from ..errors import UserError
from ..training.start import SHIPPED, Start, read_start
from .config import DetectConfig
from .detectors import Detector

CLASS_LAYERS = ("roi_heads.box_predictor.", "head.classification_head.cls_logits.")  # one output per class


def read_backbone(config: DetectConfig, notices: list[str]) -> Start | None:
    """`read_start` for a detector: *auto* starts another network than the shipped one from scratch, with a notice.

    Also raises UserError if the checkpoint takes grayscale images.
    """
    if config.init == "auto" and (config.model not in (None, SHIPPED.partition(".")[0]) or config.network_overrides()):
        notices.append(f"{config.model or 'the network'} starts from scratch: no shipped weights; use --init")
        return None
    start = read_start(config)
    if start is not None and len(start.card.constants[0]) != 3:
        raise UserError(f"--init {start.name}: it was trained on grayscale images; detectors need colour")
    return start


def copy_weights(detector: Detector, start: Start) -> str:
    """Copy what fits and report it in one line.

    Raises CheckpointError when the backbone is a different network.
    """
    own = detector.state_dict()
    is_detector = start.card.task == DETECTION
    if is_detector:
        given = detector.pyramid.renamed(start.weights, "network.backbone.")
        if start.card.classes != detector.classes:
            given = {k: v for k, v in given.items() if not k.removeprefix("network.").startswith(CLASS_LAYERS)}
    else:
        body = "network.backbone.body."
        given = {f"{body}{name}": value for name, value in start.weights.items() if not name.startswith("head.")}
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    backbone = [name for name in own if name.startswith("network.backbone.body.")]
    differing = [name for name in backbone if name not in fitting]
    if differing:
        raise CheckpointError(
            f"--init {start.name}: a different network ({len(differing)} tensors differ, "
            f"{differing[0].removeprefix('network.backbone.body.')} first)"
        )
    detector.load_state_dict(fitting, strict=False)
    fresh = len(own) - len(fitting)
    what = "the detector" if is_detector else "the backbone"
    rest = f"; {fresh} tensors start from scratch" if fresh else ""
    return f"initial weights of {what} from {start.name}{rest}"
