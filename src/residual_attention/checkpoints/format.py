"""One file a checkpoint: safetensors, with everything that is no tensor as JSON in its header. No pickle.

Written beside its place, flushed to disk and renamed, so that a kill leaves the old file or the new one;
the SHA-256 of the tensors in the header tells a damaged file.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..atomic import write_atomically
from ..errors import UserError, WriteError

FORMAT = 1


class CheckpointError(UserError):
    """A file that is no checkpoint of ours, or a damaged one."""


def _sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1e".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def encode_checkpoint(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint file. ``metadata`` must be JSON; infinities are not."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "residual_attention": json.dumps({"format": FORMAT, **metadata}, allow_nan=False),
        "sha256": _sha256(plain.items()),
    }
    return save(plain, header)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write one checkpoint file atomically.

    Raises:
        WriteError: nothing was written; what stood at ``path`` still stands. The message says so.
    """
    try:
        write_atomically(path, encode_checkpoint(tensors, metadata))
    except OSError as error:
        kept = "; the previous one is kept" if path.exists() else ""
        raise WriteError(f"cannot save {path}: {error.strerror or error}{kept}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """What the header of a checkpoint tells, without its tensors. Raises CheckpointError when it is none of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    if "residual_attention" not in header:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of residual_attention")
    return json.loads(header["residual_attention"])


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and metadata of a file that `save_checkpoint` wrote.

    Raises:
        CheckpointError: no file, another kind of file, or its content does not match its SHA-256.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "residual_attention" not in header:
                raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of residual_attention")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator there)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    if _sha256(tensors.items()) != header.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    metadata = json.loads(header["residual_attention"])
    if metadata.get("format", 0) > FORMAT:
        raise CheckpointError(f"{path} was written by a newer version (format {metadata['format']}); update this one")
    return tensors, metadata
