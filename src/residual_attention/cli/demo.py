"""``ran demo MODEL``."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import UserError
from .arguments import parse

DESCRIPTION = """Open a web page on this machine: drop an image, see its classes and where the model looks.

Nothing leaves the machine; only this machine can open the page unless --host says otherwise."""


@dataclass(frozen=True)
class DemoArguments:
    model: tyro.conf.Positional[str]
    """A run folder, a .safetensors or .onnx file written by ran, shipped weights by name, or a hub's
    local-dir:FOLDER."""
    examples: Path | None = None
    """Folder of example images; a run's own examples by default."""
    host: str = "127.0.0.1"
    """Address to serve on; 0.0.0.0 opens the page to the network."""
    port: int | None = None
    """Port; the first free one from 7860 by default."""
    min_confidence: str | None = None
    """Answer "unsure" below this probability, such as 0.8."""
    max_error: str | None = None
    """Answer "unsure" as often as needed to keep the error at or below this, such as 2%; the threshold is chosen on
    validation images."""
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps."""
    debug: bool = False
    """Show tracebacks."""


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def note_on_access(host: str, what: str) -> str | None:
    """Who can use ``what`` if it is served at an address that others reach."""
    return None if is_loopback(host) else f"note: anyone who can reach {host} can use this {what}; it has no password"


def main(argv: list[str]) -> int:
    given = parse(DemoArguments, argv, prog="ran demo", description=DESCRIPTION)
    if given.port is not None and not 1 <= given.port <= 65535:
        raise UserError(f"port must be between 1 and 65535, not {given.port}")
    if given.examples is not None and not given.examples.is_dir():
        raise UserError(f"no folder of examples at {given.examples}")
    from ..checkpoints import load, resolve_model
    from ..checkpoints.hub import is_hub
    from ..classification.threshold import choose_threshold
    from ..devices import resolve_device

    model = load(given.model, resolve_device(given.device))
    threshold = choose_threshold(model.card.confidence, given.min_confidence, given.max_error)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        from ..demo.page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("ran demo needs Gradio: pip install 'residual-attention[demo]'") from None
    from ..demo.session import example_images

    if threshold is not None:
        print(threshold.note)
    if note := note_on_access(given.host, "page"):
        print(note)
    run = Path(given.model)
    of_run = [] if is_hub(given.model) else [resolve_model(given.model).parent.parent / "examples"]
    folders = [given.examples] if given.examples else of_run
    launch(
        model,
        run.resolve().name if run.exists() else given.model,
        examples=example_images(folders),
        least=None if threshold is None else threshold.least,
        host=given.host,
        port=given.port,
        debug=given.debug,
    )
    return 0
