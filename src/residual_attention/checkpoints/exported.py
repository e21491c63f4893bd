"""An exported network, run by ONNX Runtime or OpenVINO instead of PyTorch."""

import importlib.util
import json
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .card import Card
from .classifier import Classifier
from .format import FORMAT, CheckpointError, parse_header

ENGINES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}  # the faster one first
PRECISIONS = ("auto", "fp32", "bf16")
METADATA_KEY = "residual_attention"
MASK_PREFIX = "mask:"
LIKENESS = "likeness"
NEEDED = "pip install 'residual-attention[export]'"

Run = Callable[[np.ndarray], list[np.ndarray]]


def present_engines() -> list[str]:
    """The installed engines, fastest first."""
    return [name for name, package in ENGINES.items() if importlib.util.find_spec(package)]


def check_engine(name: str) -> None:
    """Raise UserError for an engine that does not exist."""
    if name not in ("auto", "torch", *ENGINES):
        raise UserError(f"engine must be auto, {' or '.join(ENGINES)}, not {name!r}")


def choose_engine(name: str = "auto") -> str:
    """Resolve ``auto`` to an installed engine. Raises UserError for an engine that is unknown or not installed."""
    if name == "torch":
        raise UserError("an .onnx file is not run by torch; choose openvino or onnxruntime")
    check_engine(name)
    present = present_engines()
    if name == "auto":
        if not present:
            raise UserError(f"an .onnx file needs ONNX Runtime or OpenVINO: {NEEDED}")
        return present[0]
    if name not in present:
        raise UserError(f"engine {name} is not installed: {NEEDED}")
    return name


def _onnxruntime(path: Path, precision: str) -> tuple[Run, list[str]]:
    import onnxruntime

    if precision == "bf16":
        raise UserError("ONNX Runtime runs in fp32 only; bf16 needs --engine openvino")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: [np.asarray(value) for value in session.run(names, {"images": images})], names


@cache
def openvino_core() -> Any:
    """The one OpenVINO runtime of this process, never freed.

    Its CPU plugin gives the loading thread a stack for signals. When another thread frees the plugin, that stack is
    gone but still set, and the next signal (Ctrl-C) is a segmentation fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _openvino(path: Path, precision: str) -> tuple[Run, list[str]]:
    core = openvino_core()
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision != "auto":  # OpenVINO defaults to bf16 if the processor supports it
        options["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    names = [output.get_any_name() for output in compiled.outputs]
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> list[np.ndarray]:
        found = request.infer([images])
        return [np.array(found[i]) for i in range(len(names))]

    return run, names


_STARTS = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _check_constants(model: Any, path: Path) -> None:
    """Raise CheckpointError for weights that are not finite, or that lie outside the file."""
    from onnx import TensorProto, numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise CheckpointError(f"{path} keeps its weights in another file; `ran export` writes one file")
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            continue
        try:
            values = numpy_helper.to_array(tensor)
        except Exception as error:  # a shape that does not fit the data
            raise CheckpointError(f"{path} is damaged: its weights {tensor.name} cannot be read") from error
        if not np.isfinite(values).all():
            raise CheckpointError(f"{path} cannot be used: its weights {tensor.name} are not all finite")


def read_onnx_card(path: Path) -> Card:
    """Read the card that `residual_attention.export` wrote into the file.

    Raises CheckpointError for any other file, or UserError if the package ``onnx`` is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError(f"an .onnx file needs the package onnx: {NEEDED}") from None
    try:
        model = onnx.load(path, load_external_data=False)
        properties = {entry.key: entry.value for entry in model.metadata_props}
    except OSError:
        raise
    except Exception as error:  # protobuf raises its own exception types
        raise CheckpointError(f"{path} is damaged or not an ONNX file: {type(error).__name__}") from None
    if METADATA_KEY not in properties:
        raise CheckpointError(f"{path} is an ONNX file, but was not written by `ran export`")
    _check_constants(model, path)
    return Card.from_header(parse_header(properties[METADATA_KEY], path), path)


def onnx_header(card: Card) -> str:
    """The JSON text that `read_onnx_card` reads."""
    return json.dumps({"format": FORMAT, **card.for_inference().for_sharing().to_header()}, allow_nan=False)


class ExportedClassifier(Classifier):
    """What `load` returns for an ``.onnx``: ``classes``, ``preprocess``, ``card``, and a forward on the CPU.

    Shapes: (B, in_chans, H, W) float32, on any device, to (B, num_classes) on the same device. There are no gradients.
    """

    def __init__(self, path: Path, engine: str = "auto", precision: str = "auto") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise UserError(f"precision must be {', '.join(PRECISIONS)}, not {precision!r}")
        self.describe(read_onnx_card(path))
        self.engine = choose_engine(engine)
        try:
            self._run, self._names = _STARTS[self.engine](path, precision)
        except UserError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{path} cannot be run by {self.engine}: {reason}") from error
        self.listeners: list[Callable[[OrderedDict[str, Tensor]], object]] = []
        """Called with all outputs, by name, of each forward pass."""
        self.eval()

    @property
    def has_masks(self) -> bool:
        return any(name.startswith(MASK_PREFIX) for name in self._names)

    def _outputs(self, images: Tensor) -> OrderedDict[str, Tensor]:
        values = np.ascontiguousarray(images.detach().cpu().float().numpy())
        found = self._run(values)
        outputs = OrderedDict(
            (name, torch.from_numpy(value).to(images.device)) for name, value in zip(self._names, found, strict=True)
        )
        for listener in self.listeners:
            listener(outputs)
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        return self._outputs(images)["logits"]

    def with_likeness(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self._outputs(images)
        return found["logits"], found.get(LIKENESS)

    def with_masks(self, images: Tensor) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        """Logits, and masks by module name.

        Raises UserError if the file was exported without masks.
        """
        self.require_masks()
        found = self._outputs(images)
        return found["logits"], masks_among(found)

    def require_masks(self) -> None:
        """Raise UserError if the file was exported without masks."""
        if not self.has_masks:
            raise UserError("this .onnx was exported without its masks; `ran export --masks` adds them")


def masks_among(outputs: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The masks among an exported network's outputs, by module name."""
    return OrderedDict(
        (name.removeprefix(MASK_PREFIX), mask) for name, mask in outputs.items() if name.startswith(MASK_PREFIX)
    )
