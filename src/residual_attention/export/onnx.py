"""Exports one ONNX file: dynamic batch and image size, optional masks, classes and preprocessing in its metadata."""

import os
import tempfile
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..atomic import write_atomically
from ..attention.masks import attention_modules, record_masks
from ..checkpoints.card import Card
from ..checkpoints.classifier import logits_and_likeness
from ..checkpoints.exported import LIKENESS, MASK_PREFIX, METADATA_KEY, NEEDED, ExportedClassifier, onnx_header
from ..checkpoints.exporter import silenced, strip_traces
from ..checkpoints.onnx_metadata import plain_metadata
from ..errors import ExportError, UserError

OPSET = 20
TOLERANCE = 1e-4  # relative to max(1, largest |logit|): allows for rounding in another order of summation


@dataclass(frozen=True)
class Parity:
    """``difference``: largest |logit - logit| over the inputs tried; ``allowed``: its limit."""

    difference: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.allowed


class Outputs(nn.Module):
    """The network with the likeness to the training images, if there is a ``centre``, and masks as further outputs."""

    def __init__(self, network: nn.Module, centre: tuple[float, ...], masks: bool) -> None:
        super().__init__()
        self.network, self.centre, self.masks = network, centre, masks

    @property
    def names(self) -> list[str]:
        masks = [MASK_PREFIX + name for name in attention_modules(self.network)] if self.masks else []
        return ["logits", *([LIKENESS] if self.centre else []), *masks]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with record_masks(self.network) if self.masks else nullcontext() as recording:
            logits, alike = self._answers(images)
        masks = recording.masks.values() if recording is not None else ()
        return logits, *([] if alike is None else [alike]), *masks

    def _answers(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.centre:
            return self.network(images), None
        return logits_and_likeness(self.network, images, self.centre)  # type: ignore[arg-type]


def require_exporter() -> None:
    """Raise UserError if packages of the extra ``export`` are missing: call it before anything that takes long."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"ran export needs the package {error.name}: {NEEDED}") from None


def onnx_bytes(model: nn.Module, card: Card, *, image_size: int, in_chans: int, masks: bool = False) -> bytes:
    """Serialise the network in eval mode as an ONNX model with input ``images`` and output ``logits``.

    Args:
        card: stored in the file. If its confidence has a centre, ``likeness`` is a further output.
        masks: also output each module's mask, as ``mask:<module name>``.

    Raises UserError if the packages of the extra ``export`` are missing.
    """
    require_exporter()
    if masks and not attention_modules(model):
        raise UserError("this network has no masks: it was built with learning=plain; omit --masks")
    training = model.training
    example = torch.randn(2, in_chans, image_size, image_size + 8)  # not square, so height and width are not confused
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    traced = Outputs(model.eval(), card.confidence.centre, masks)
    try:
        with silenced(), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), torch.no_grad():
            program = torch.onnx.export(
                traced,
                (example,),
                input_names=["images"],
                output_names=traced.names,
                dynamic_shapes=(dynamic,),
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        model.train(training)
    assert program is not None
    proto = program.model_proto
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    strip_traces(proto)
    for key, value in {METADATA_KEY: onnx_header(card), **plain_metadata(card)}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return proto.SerializeToString()


@torch.no_grad()
def check_parity(model: nn.Module, exported: nn.Module, batches: list[Tensor]) -> Parity:
    """Compare logits on each batch (B, C, H, W), fp32 on both sides."""
    difference, largest = 0.0, 1.0
    training = model.training
    model.eval()
    try:
        for images in batches:
            expected = model(images)
            difference = max(difference, (exported(images) - expected).abs().max().item())
            largest = max(largest, expected.abs().max().item())
    finally:
        model.train(training)
    return Parity(difference, TOLERANCE * largest)


def check_inputs(image_size: int, in_chans: int, seed: int = 0) -> list[Tensor]:
    """Test inputs: one image, several images, and a size that is neither the network's nor square."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, image_size, image_size), (3, image_size, image_size), (2, image_size + 9, image_size + 22)]
    return [torch.randn(b, in_chans, h, w, generator=generator) for b, h, w in shapes]


def export_onnx(
    model: nn.Module, card: Card, out: Path, *, image_size: int, in_chans: int, masks: bool = False
) -> Parity:
    """Write ``out`` as one file, after checking that ONNX Runtime gives the same logits as PyTorch.

    Raises:
        ExportError: the logits differ; nothing is written.
        UserError: the extra ``export`` is not installed.
    """
    content = onnx_bytes(model, card, image_size=image_size, in_chans=in_chans, masks=masks)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.onnx"
        trial.write_bytes(content)
        exported = ExportedClassifier(trial, "onnxruntime", "fp32")
        parity = check_parity(model, exported, check_inputs(image_size, in_chans))
    if not parity.holds:
        raise ExportError(
            f"the exported network differs from PyTorch's by {parity.difference:.2e}, above {parity.allowed:.2e}; "
            "nothing was written"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)
    return parity


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, batches: list[Tensor]) -> None:
    """Set an untrained network's BN statistics from ``batches``, so its outputs have a realistic scale."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over batches
    training = model.training
    model.train()
    for images in batches:
        model(images)
    model.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
