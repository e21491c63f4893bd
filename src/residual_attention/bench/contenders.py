"""The contenders: our network, in every way it can run, and the alternatives, unmodified, in eager mode."""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..allocator import keep_freed_memory, release_freed_memory
from ..checkpoints.card import Card
from ..checkpoints.exported import ExportedClassifier, present_engines
from ..data.preprocess import Preprocess
from ..devices import DTYPES, cpu_computes_bf16
from ..trunks.create import create_model

PEER = "pytorchcv"  # the only package on PyPI with this network at 224 px
WIDE = "attention56_cifar_wide"
PEER_MISSING = "pip install 'residual-attention[bench]'"


@dataclass(frozen=True)
class Contender:
    """``network``: one of our names, ``pytorchcv/NAME`` or ``timm/NAME``; ``way``: eager | compile | openvino |
    onnxruntime; ``precision``: fp32 | bf16 | fp16 | int8; ``plain``: without our allocator settings."""

    label: str
    network: str
    _: KW_ONLY
    way: str = "eager"
    precision: str = "fp32"
    channels_last: bool = False
    plain: bool = False

    @property
    def missing(self) -> str | None:
        """What to install before this contender can run."""
        if self.network.startswith(PEER) and not importlib.util.find_spec(PEER):
            return PEER_MISSING
        if self.way in ("openvino", "onnxruntime") and self.way not in present_engines():
            return "pip install 'residual-attention[export]'"
        return None


def build(network: str, num_classes: int) -> nn.Module:
    """The untrained network; weights do not change the time."""
    torch.manual_seed(0)
    library, _, name = network.rpartition("/")
    if library == PEER:
        from pytorchcv.model_provider import get_model  # type: ignore[import-not-found]

        return get_model(name, pretrained=False, num_classes=num_classes)
    if library == "timm":
        import timm

        return timm.create_model(name, num_classes=num_classes)
    return create_model(name, num_classes)


def baseline_at(size: int) -> Contender:
    """The baseline of all comparisons, at 224 or 32 px."""
    if size >= 224:
        return Contender("pytorchcv resattnet56, eager fp32", f"{PEER}/resattnet56", plain=True)
    return Contender("plain graph, eager fp32 NCHW", "attention56_cifar", plain=True)


def _eager(size: int) -> list[Contender]:
    """The baseline and the other unmodified networks in eager fp32; at 32 px our plain graph is the baseline."""
    if size < 224:
        return [baseline_at(size)]
    return [
        baseline_at(size),
        Contender("timm ResNet-50, eager fp32", "timm/resnet50", plain=True),
        Contender("timm SE-ResNet-50, eager fp32", "timm/seresnet50", plain=True),
        Contender("ours, eager fp32", _our_network(size)),
    ]


def _our_network(size: int) -> str:
    return "attention56" if size >= 224 else "attention56_cifar"


def _on_cuda(size: int) -> list[Contender]:
    """The contenders on a GPU, the same for inference and training."""
    name = _our_network(size)
    peer = [Contender(f"{PEER} resattnet56, AMP bf16", f"{PEER}/resattnet56", precision="bf16")] if size >= 224 else []
    ours = [
        Contender("ours, AMP bf16", name, precision="bf16"),
        Contender("ours, compiled bf16", name, way="compile", precision="bf16", channels_last=True),
    ]
    return [*_eager(size), *peer, *ours]


def inference_contenders(size: int, device: torch.device) -> list[Contender]:
    """The peers, then our contenders from plain to fast."""
    if device.type == "cuda":
        return _on_cuda(size)
    name, half = _our_network(size), "bf16" if cpu_computes_bf16() else "fp32"
    return [
        *_eager(size),
        Contender("ours, channels_last fp32, freed memory given back", name, channels_last=True, plain=True),
        Contender("ours, channels_last fp32", name, channels_last=True),
        Contender(f"ours, channels_last {half}", name, precision=half, channels_last=True),
        Contender(f"ours, compiled {half}", name, way="compile", precision=half, channels_last=True),
        Contender("ours, ONNX Runtime fp32", name, way="onnxruntime"),
        Contender("ours, ONNX Runtime int8", name, way="onnxruntime", precision="int8"),
        Contender("ours, OpenVINO fp32", name, way="openvino"),
        Contender(f"ours, OpenVINO {half}", name, way="openvino", precision=half),
        Contender("ours, OpenVINO int8", name, way="openvino", precision="int8"),
    ]


def training_contenders(size: int, device: torch.device) -> list[Contender]:
    """The peers, then our contenders; the last is the default of `ran train`."""
    if device.type == "cuda":
        return _on_cuda(size)
    half = "bf16" if cpu_computes_bf16() else "fp32"
    ours = Contender(
        f"ours, defaults ({half}, channels_last)", _our_network(size), way="eager", precision=half, channels_last=True
    )
    wide = replace(ours, label=f"wide network, defaults ({half}, channels_last)", network=WIDE)
    return [*_eager(size), *([wide] if size < 224 else []), ours]


def _laid_out(contender: Contender, model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    layout = torch.channels_last if contender.channels_last else torch.contiguous_format
    return model.to(images.device, memory_format=layout), images.contiguous(memory_format=layout)  # type: ignore[call-overload]


@cache
def _onnx(network: str, size: int, num_classes: int, int8: bool) -> bytes:
    """Our network as an ONNX file, with the BN statistics of random images so that int8 can calibrate its ranges."""
    from ..export.int8 import quantize
    from ..export.onnx import calibrate_batch_norm, export_onnx

    images = torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        if int8:
            path.write_bytes(_onnx(network, size, num_classes, False))
            quantize(path, path, images)
            return path.read_bytes()
        model = build(network, num_classes)
        calibrate_batch_norm(model, list(images.split(8)))
        preprocess = Preprocess(size, mean=(0.5,) * 3, std=(0.5,) * 3)
        card = Card(model=network, classes=tuple(map(str, range(num_classes))), preprocess=preprocess)
        export_onnx(model.eval(), card, path, image_size=size, in_chans=3)
        return path.read_bytes()


def _engine(contender: Contender, size: int, num_classes: int) -> nn.Module:
    int8 = contender.precision == "int8"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(_onnx(contender.network, size, num_classes, int8))
        return ExportedClassifier(path, contender.way, "fp32" if int8 else contender.precision)


_plain_before: list[bool] = []


def _as_used(contender: Contender, call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The call with the allocator as our commands set it, or unmodified for plain contenders."""

    def settled() -> Tensor:
        if _plain_before != [contender.plain]:
            _plain_before[:] = [contender.plain]
            (release_freed_memory if contender.plain else keep_freed_memory)()
        return call()

    return settled


def inference_call(contender: Contender, images: Tensor, num_classes: int) -> Callable[[], Tensor]:
    """A function that predicts the batch once; the first call may compile."""
    if contender.way in ("openvino", "onnxruntime"):
        engine = _engine(contender, images.shape[-1], num_classes)
        return _as_used(contender, lambda: engine(images))
    dtype = DTYPES[contender.precision]
    model, images = _laid_out(contender, build(contender.network, num_classes).eval(), images)
    if contender.way == "compile":
        import torch._inductor.config as inductor

        with torch.no_grad(), inductor.patch(freezing=images.device.type == "cpu"):
            model = torch.compile(model.to(dtype), mode="max-autotune" if images.is_cuda else None)
            images = images.to(dtype)
            model(images)  # compiles here, while the patch is active
        dtype = torch.float32  # weights and images already have the precision

    def predict() -> Tensor:
        with torch.no_grad(), torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            return model(images)

    return _as_used(contender, predict)


def training_call(contender: Contender, images: Tensor, num_classes: int, *, checkpointing: bool = False) -> Callable:
    """A function that runs one step: forward, cross-entropy, backward, SGD with Nesterov momentum."""
    dtype = DTYPES[contender.precision]
    model, images = _laid_out(contender, build(contender.network, num_classes).train(), images)
    if checkpointing:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, num_classes, (len(images),), generator=generator).to(images.device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=contender.channels_last
    )
    forward = torch.compile(model) if contender.way == "compile" else model

    def step() -> Tensor:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            logits = forward(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return _as_used(contender, step)
