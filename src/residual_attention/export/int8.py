"""Post-training int8 quantization: activation ranges from calibration images, per-channel weights."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ..atomic import write_atomically
from ..errors import UserError

CALIBRATION_IMAGES = 512
CALIBRATION_BATCH = 32


class _Reader:
    """Calibration images behind ONNX Runtime's reader interface."""

    def __init__(self, images: Tensor) -> None:
        self.batches: Iterator[Tensor] = iter(images.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": np.ascontiguousarray(batch.numpy())}


def quantize(source: Path, out: Path, images: Tensor) -> None:
    """Write an int8 copy (quantize-dequantize pairs) of the ONNX file ``source``.

    Args:
        images: (N, C, S, S) preprocessed training images, never test images; `CALIBRATION_IMAGES` are enough.

    Only convolutions and the linear layer are quantized. The masks' sigmoids, resizing and sums stay in fp32.
    """
    if len(images) == 0:
        raise UserError("int8 needs calibration images")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared, small = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(small),
                _Reader(images),  # type: ignore[arg-type]
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                per_channel=True,
                reduce_range=True,  # 7-bit weights: 8 bits saturate in the 16-bit sums of x86 without VNNI
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
            _keep_metadata(source, small)
            write_atomically(out, small.read_bytes())
    finally:
        logging.disable(level)


def _keep_metadata(source: Path, target: Path) -> None:
    """Copy the metadata, so the card stays with the network."""
    import onnx

    model, wanted = onnx.load(target), onnx.load(source, load_external_data=False).metadata_props
    del model.metadata_props[:]
    model.metadata_props.extend(wanted)
    onnx.save(model, target)
