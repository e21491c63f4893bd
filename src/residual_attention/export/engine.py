"""The fastest engine for many images: PyTorch, or the network compiled by OpenVINO or ONNX Runtime where that pays.

A network compiled by OpenVINO is kept in the cache folder, so that the next call starts at once.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import Classifier
from ..checkpoints.classifier import TrainedNetwork
from ..checkpoints.exported import ExportedClassifier, openvino_core, present_engines
from ..checkpoints.exporter import silenced
from ..data.cache import cache_folder
from ..devices import usable_cores
from ..errors import ExportError, UserError
from .onnx import Outputs, check_inputs, check_parity, export_onnx

TORCH, OPENVINO, ONNXRUNTIME = "torch", "openvino", "onnxruntime"
ENGINES = ("auto", TORCH, OPENVINO, ONNXRUNTIME)
FEWEST_IMAGES = 100  # below, even timing a few would not pay
TIMED_IMAGES = 8
GAIN = 2.0  # times as fast as PyTorch, at least; 2.2 to 3 were measured
COST_S = {OPENVINO: 15.0, ONNXRUNTIME: 45.0}  # to compile a network of the family on one busy core
CACHED_COST_S = 2.0
KEPT_NETWORKS = 8  # in the cache


class CompiledNetwork(Classifier):
    """A network compiled by OpenVINO for its own image size. Shapes: as `ExportedClassifier`.

    A batch is computed one image at a time, ``streams`` of them at once with a thread each: an image's features stay in
    the caches, and no thread waits for the others after every layer. One stream has all threads.
    """

    def __init__(self, network: TrainedNetwork, folder: Path, streams: int = 1) -> None:
        super().__init__()
        self.describe(network.card)
        self.engine = OPENVINO
        import openvino

        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if streams > 1:
            options |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
        network_in_memory = openvino_core().compile_model(str(folder / "network.xml"), "CPU", options)
        self._outputs = len(network_in_memory.outputs)
        self._found: dict[int, list[np.ndarray]] = {}
        self._queue = openvino.AsyncInferQueue(network_in_memory, streams)
        self._queue.set_callback(self._keep)
        self.eval()

    def _keep(self, request: Any, index: int) -> None:
        self._found[index] = [np.array(request.get_output_tensor(i).data) for i in range(self._outputs)]

    def with_likeness(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        self._found = {}
        for index, image in enumerate(images.numpy()):
            self._queue.start_async([np.ascontiguousarray(image[None])], index)
        self._queue.wait_all()
        of_images = [self._found[index] for index in range(len(images))]
        values = [torch.from_numpy(np.concatenate(parts)) for parts in zip(*of_images, strict=True)]
        return values[0], values[1] if len(values) > 1 else None

    def forward(self, images: Tensor) -> Tensor:
        return self.with_likeness(images)[0]


def _key(network: TrainedNetwork) -> str:
    """Of the weights, what is computed from them, and the version that compiles."""
    import openvino

    digest = hashlib.sha256(json.dumps(network.card.to_header(), sort_keys=True).encode())
    digest.update(openvino.__version__.encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _cached(network: TrainedNetwork) -> Path:
    return cache_folder() / "engines" / _key(network)


def _convert(network: TrainedNetwork, folder: Path) -> None:
    """Write the network into ``folder``, completely or not at all; the oldest ones in the cache make room."""
    import openvino

    how = network.preprocess
    traced = Outputs(network, network.card.confidence.centre, masks=False)
    with silenced(), torch.no_grad():  # tracing warns about sizes, which are fixed here
        example = torch.randn(2, how.in_chans, how.image_size, how.image_size)
        converted = openvino.convert_model(traced.eval(), example_input=(example,))
        converted.reshape([-1, *example.shape[1:]])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        openvino.save_model(converted, str(Path(temporary) / "network.xml"), compress_to_fp16=False)
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(temporary, folder)
            os.mkdir(temporary)  # for the context to remove
    others = sorted((path for path in folder.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in others[:-KEPT_NETWORKS]:
        shutil.rmtree(path, ignore_errors=True)


def _compiled_by_openvino(network: TrainedNetwork, streams: int) -> Classifier:
    folder = _cached(network)
    if not folder.is_dir():
        _convert(network, folder)
    try:
        return CompiledNetwork(network, folder, streams)
    except RuntimeError:  # damaged in the cache
        shutil.rmtree(folder, ignore_errors=True)
        _convert(network, folder)
        return CompiledNetwork(network, folder, streams)


def _compiled_by_onnxruntime(network: TrainedNetwork) -> Classifier:
    how = network.preprocess
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(network, network.card, path, image_size=how.image_size, in_chans=how.in_chans)
        return ExportedClassifier(path, ONNXRUNTIME, "fp32")


def compiled(network: TrainedNetwork, engine: str, streams: int = 1) -> Classifier:
    """The network compiled by ``engine``, with PyTorch's logits up to rounding (the tolerance of `ran export`).

    ``streams``: as `CompiledNetwork`; ONNX Runtime has no such choice.

    Raises:
        ExportError: the logits differ.
        UserError: the engine or, for ONNX Runtime, the exporter is not installed.
    """
    if engine not in present_engines():
        raise UserError(f"engine {engine} is not installed: pip install 'residual-attention[export]'")
    found = _compiled_by_openvino(network, streams) if engine == OPENVINO else _compiled_by_onnxruntime(network)
    how = network.preprocess
    parity = check_parity(network, found, check_inputs(how.image_size, how.in_chans)[:2])
    if not parity.holds:
        raise ExportError(f"{engine}'s logits differ from PyTorch's by {parity.difference:.2e}")
    return found


@dataclass(frozen=True)
class Chosen:
    """The network to predict with; ``note`` says why another engine than PyTorch runs it, or why none does."""

    model: Classifier
    note: str = ""


@torch.inference_mode()
def _seconds_per_image(network: Classifier) -> float:
    how = network.preprocess
    images = torch.randn(TIMED_IMAGES, how.in_chans, how.image_size, how.image_size)
    network(images[:1])
    start = time.perf_counter()
    network(images)
    return (time.perf_counter() - start) / TIMED_IMAGES


def _worth_it(network: TrainedNetwork, images: int) -> str | None:
    """The engine whose compilation will take less time than it saves on so many ``images``; None if PyTorch is best."""
    saved_s = images * _seconds_per_image(network) * (1 - 1 / GAIN)
    for engine in present_engines():
        cost_s = CACHED_COST_S if engine == OPENVINO and _cached(network).is_dir() else COST_S[engine]
        if saved_s > 1.3 * cost_s:
            return engine
    return None


def fastest(model: Classifier, images: int, engine: str = "auto") -> Chosen:
    """The engine for ``images`` predictions on the CPU, or the one that was asked for.

    An exported network and one on a GPU stay as they are. Raises UserError for an engine that is unknown or not
    installed.
    """
    if engine not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if not isinstance(model, TrainedNetwork) or next(model.parameters()).device.type != "cpu" or engine == TORCH:
        return Chosen(model)
    streams = usable_cores() if images >= FEWEST_IMAGES else 1  # few images: the next one is not there yet
    if engine != "auto":
        return Chosen(compiled(model, engine, streams), f"engine: {engine}")
    if images < FEWEST_IMAGES or (best := _worth_it(model, images)) is None:
        return Chosen(model)
    try:
        return Chosen(compiled(model, best, streams), f"engine: {best}, for {images} images")
    except (ExportError, UserError, RuntimeError) as error:
        return Chosen(model, f"engine: torch ({best} was tried: {' '.join(str(error).split())[:200]})")
