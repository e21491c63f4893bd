"""A detector as one ONNX file, checked against PyTorch, and an ONNX file in the detector's place.

In torchvision's detectors, the number of boxes depends on the data. `torch.export` does not support that (torch 2.15);
the older, tracing exporter does, and torchvision has code for it.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..atomic import write_atomically
from ..checkpoints.card import DETECTION, Card
from ..checkpoints.exported import METADATA_KEY, NEEDED, onnx_header, read_onnx_card
from ..checkpoints.exporter import silenced, strip_traces
from ..data.find import find_images
from ..data.images import read_image
from ..errors import ExportError, UserError
from .config import DetectConfig
from .detectors import BaseDetector, Detector, longest_side
from .loading import as_float, at_network_size

OPSET = 18
OUTPUTS = ("boxes", "labels", "scores")
TOLERANCE = 1e-3  # for a score; a hundred times as much for a corner in pixels


class _OneImage(nn.Module):
    """(3, h, w) to boxes, labels, scores, in the same order for every detector."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.network([image])[0]
        return tuple(found[name] for name in OUTPUTS)


def _traced(model: Detector, image: Tensor, out: Path) -> None:
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"ran detect export needs the package {error.name}: {NEEDED}") from None
    with silenced():  # it warns about sizes that tracing would freeze; torchvision handles its own
        torch.onnx.export(
            _OneImage(model.network).eval(),
            (image,),
            str(out),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_axes={"image": {1: "height", 2: "width"}, **{name: {0: "count"} for name in OUTPUTS}},
            opset_version=OPSET,
            dynamo=False,
        )


def _with_card(path: Path, card: Card) -> bytes:
    import onnx

    proto = onnx.load(path)
    strip_traces(proto)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, onnx_header(card)
    return proto.SerializeToString()


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor], threshold: float = 0.0) -> float:
    """The largest difference of a score, or a hundredth of that of a corner in pixels, box by box.

    Boxes with equal scores may swap places: each is compared with the nearest one of its label and score. A box just
    above the detector's ``threshold`` may be below it on the other side: where the counts differ, such boxes are left
    out. Infinite when the counts still differ.
    """
    if len(ours["scores"]) != len(theirs["scores"]):
        least = threshold + TOLERANCE
        ours, theirs = ({n: v[found["scores"] > least] for n, v in found.items()} for found in (ours, theirs))
        if len(ours["scores"]) != len(theirs["scores"]):
            return float("inf")
    worst = 0.0
    for box, label, score in zip(ours["boxes"], ours["labels"], ours["scores"], strict=True):
        same = theirs["labels"] == label
        if not same.any():
            return float("inf")
        corners = (theirs["boxes"][same] - box).abs().amax(dim=1) / 100
        worst = max(worst, float(torch.maximum(corners, (theirs["scores"][same] - score).abs()).min()))
    return worst


def check_images(model: Detector, sources: Sequence[str], most: int = 20) -> list[Tensor]:
    """The images for the export check: up to ``most`` from files, or synthetic ones of three sizes."""
    if sources:
        paths = find_images(sources)[:most]
        return [
            as_float(at_network_size(read_image(path, 3), model.image_size, model.max_size), torch.device("cpu"))
            for path in paths
        ]
    generator = torch.Generator().manual_seed(0)
    short, longest = model.image_size, model.max_size
    shapes = ((short, short), (short, min(longest, round(1.4 * short))), (min(longest, round(1.25 * short)), short))
    return [torch.rand(3, *shape, generator=generator) for shape in shapes]


@torch.no_grad()
def export_detector(model: Detector, out: Path, images: list[Tensor]) -> float:
    """Write ``out`` once ONNX Runtime finds the same boxes as PyTorch in ``images`` ((3, h, w) in [0, 1]).

    The batch is one image of any size; normalisation is part of the graph. Returns the largest difference.

    Raises:
        ExportError: the boxes differ; nothing is written.
        UserError: the extra ``export`` is not installed.
    """
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.onnx"
        _traced(model, images[0], trial)
        content = _with_card(trial, model.card)
        trial.write_bytes(content)
        exported = ExportedDetector(trial)
        threshold = DetectConfig.from_dict(model.card.config).score_threshold
        worst = max(largest_difference(model([image])[0], exported([image])[0], threshold) for image in images)
    if worst > TOLERANCE:
        raise ExportError(f"the exported detector's boxes differ from PyTorch's by {worst:.2e}; nothing was written")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
    return worst


class ExportedDetector(BaseDetector):
    """A `Detector` run by ONNX Runtime on the CPU; ``forward`` has the interface of a detector in eval mode."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise UserError(f"a detector's .onnx needs ONNX Runtime: {NEEDED}") from None
        card = read_onnx_card(path)
        card.require_task(DETECTION, path)
        config = DetectConfig.from_dict(card.config)
        super().__init__(card.classes, config.image_size, longest_side(config), card)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.eval()

    def forward(self, images: list[Tensor], targets: None = None) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            values = self._session.run(list(OUTPUTS), {"image": image.detach().cpu().float().numpy()})
            found.append({n: torch.from_numpy(v).to(image.device) for n, v in zip(OUTPUTS, values, strict=True)})
        return found
