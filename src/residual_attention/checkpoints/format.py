"""One file per checkpoint: safetensors, with everything that is not a tensor as JSON in its header. No pickle.

A file is written under a temporary name, flushed to disk and renamed, so a kill leaves either the old file or the new
one. Format 2 stores two SHA-256 digests: one of the header, and one of the tensors and the header. Format 1, with a
digest of the tensors only, still loads.
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

FORMAT = 2
REPLACED = 10  # times in a row that a reader puts up with
HEADER_KEY, DIGEST_KEY, HEADER_DIGEST_KEY = "residual_attention", "sha256", "header_sha256"


class CheckpointError(UserError):
    """A file that is not one of our checkpoints, or a damaged one."""


def sha256_of(tensors: Iterable[tuple[str, Tensor]], header: str) -> str:
    """Digest of names, types, shapes and bytes, sorted by name, followed by ``header``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1e".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(header.encode())
    return digest.hexdigest()


def encode_checkpoint(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint file. ``header`` must be valid JSON, which excludes NaN and infinity."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    return save(
        plain, {HEADER_KEY: text, DIGEST_KEY: sha256_of(plain.items(), text), HEADER_DIGEST_KEY: sha256_of((), text)}
    )


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write one checkpoint file atomically.

    Raises:
        WriteError: nothing was written; an earlier file at ``path`` is kept, and the message says so.
    """
    try:
        write_atomically(path, encode_checkpoint(tensors, header))
    except OSError as error:
        kept = "; the previous one is kept" if path.exists() else ""
        raise WriteError(f"cannot save {path}: {error.strerror or error}{kept}") from error


def _refuse_constant(name: str) -> None:
    """Python's JSON reader accepts NaN and Infinity, which `encode_checkpoint` never writes."""
    raise ValueError(f"{name} is not JSON")


def parse_header(text: str, path: Path) -> dict[str, Any]:
    """Parse a header's JSON. Raises CheckpointError, naming ``path``, if it is damaged or of a newer format."""
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or an integer of too many digits
        raise CheckpointError(f"{path} is damaged: its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("format", 0), int):
        raise CheckpointError(f"{path} is damaged: its header is not a checkpoint header")
    check_version(header.get("format", 0), path)
    return header


def check_version(version: int, source: str | Path) -> None:
    """Raise CheckpointError for a file or folder in a format of the future."""
    if version > FORMAT:
        raise CheckpointError(f"{source} was written by a newer version (format {version}); update this package")


def _header_of(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Our header in a safetensors file's metadata, checked against its digest from format 2 on."""
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of residual_attention")
    header = parse_header(metadata[HEADER_KEY], path)
    if header.get("format", 0) >= 2 and metadata.get(HEADER_DIGEST_KEY) != sha256_of((), metadata[HEADER_KEY]):
        raise CheckpointError(f"{path} is damaged: its header does not match its SHA-256")
    return header


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a checkpoint without its tensors. Raises CheckpointError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return _header_of(file.metadata() or {}, path)
    except (SafetensorError, FileNotFoundError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (on the CPU) and header of a file written by `save_checkpoint`.

    A file that is replaced while it is read is read again: safetensors opens it more than once.

    Raises CheckpointError: no file, another kind of file, or its content does not match its SHA-256.
    """
    for _ in range(REPLACED):
        before = _identity(path)
        try:
            return _read_once(path)
        except CheckpointError:
            if _identity(path) == before:
                raise
    return _read_once(path)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_once(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = _header_of(metadata, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is not iterable)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
    hashed = metadata[HEADER_KEY] if header.get("format", 0) >= 2 else ""
    if sha256_of(tensors.items(), hashed) != metadata.get(DIGEST_KEY):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    return tensors, header
