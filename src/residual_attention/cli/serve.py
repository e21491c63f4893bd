"""``ran serve MODEL``."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from ..errors import UserError
from .arguments import parse
from .demo import note_on_access

if TYPE_CHECKING:
    from ..serve.answering import Answering

DESCRIPTION = """Serve a classifier over HTTP: POST images to /predict, get classes and, on request, masks.

Images from requests that arrive together are classified in one batch. Only this machine can connect unless --host says
otherwise. /docs documents the API, and /openapi.json describes it for programs."""

NEEDED = "ran serve needs FastAPI and uvicorn: pip install 'residual-attention[serve]'"


@dataclass(frozen=True)
class ServeArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    host: str = "127.0.0.1"
    """Address to serve on; 0.0.0.0 opens it to the network."""
    port: int = 8000
    """Port; 0 takes a free one."""
    batch_size: int = 16
    """Maximum number of images classified together."""
    wait_ms: float = 5.0
    """How long the first image of a batch waits for others, in milliseconds."""
    top_k: int = 5
    """Classes in each answer."""
    min_confidence: str | None = None
    """Answer "unsure" below this probability, such as 0.8."""
    max_error: str | None = None
    """Answer "unsure" as often as needed to keep the error at or below this, such as 2%; the threshold is chosen on
    validation images."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    engine: str = "auto"
    """auto | torch | openvino | onnxruntime; auto compiles the network with OpenVINO if it is installed."""
    debug: bool = False
    """Show tracebacks."""


def _check(given: ServeArguments) -> None:
    if not 0 <= given.port <= 65535:
        raise UserError(f"port must be between 0 and 65535, not {given.port}")
    if given.batch_size < 1 or given.top_k < 1 or not 0 <= given.wait_ms <= 10_000:
        raise UserError("batch-size and top-k must be at least 1, wait-ms between 0 and 10000")


def main(argv: list[str]) -> int:
    given = parse(ServeArguments, argv, prog="ran serve", description=DESCRIPTION)
    _check(given)
    try:
        from ..serve.app import build_app
        from ..serve.running import listening, serve
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "pydantic"):
            raise
        raise UserError(NEEDED) from None

    with listening(given.host, given.port) as place:
        app = build_app(_answering(given), host=given.host, batch_size=given.batch_size, wait_s=given.wait_ms / 1000)
        host, port = place.getsockname()[:2]
        print(f"serving     http://{f'[{host}]' if ':' in host else host}:{port}/docs   (Ctrl-C to stop)", flush=True)
        serve(app, place)
    return 0


def _answering(given: ServeArguments) -> "Answering":
    """The model, its engine and its threshold, with notes about them on stderr."""
    from ..checkpoints import load
    from ..checkpoints.exported import present_engines
    from ..classification.threshold import choose_threshold
    from ..devices import resolve_device
    from ..export.engine import OPENVINO, TORCH, fastest
    from ..serve.answering import Answering

    model = load(given.model, resolve_device(given.device), engine=given.engine)
    threshold = choose_threshold(model.card.confidence, given.min_confidence, given.max_error)
    engine = given.engine
    if engine == "auto":  # a server runs long enough for OpenVINO to pay
        engine = OPENVINO if OPENVINO in present_engines() else TORCH
    chosen = fastest(model, 0, engine)
    notes = [chosen.note, None if threshold is None else threshold.note, note_on_access(given.host, "model")]
    for note in filter(None, notes):
        print(note, file=sys.stderr)
    return Answering(chosen.model, model, given.top_k, None if threshold is None else threshold.least)
