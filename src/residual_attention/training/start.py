"""The weights that a run starts from: a checkpoint that ``--init`` names."""

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ..checkpoints.card import Card
from ..checkpoints.load import read_model
from ..errors import UserError
from .config import RunConfig
from .options import NetworkOptions

SHIPPED = "attention56_cifar.cifar10"  # what ``--init auto`` means


@dataclass(frozen=True)
class Start:
    """Weights (fp32, on the CPU) and card of a checkpoint; ``name`` is what the user called it."""

    name: str
    weights: dict[str, Tensor]
    card: Card

    @property
    def network_options(self) -> dict[str, Any]:
        """The network's options, without classes and channels."""
        known = {field.name for field in fields(NetworkOptions)}
        overrides = {key: value for key, value in self.card.overrides.items() if key in known}
        return {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}


def read_start(config: RunConfig) -> Start | None:
    """The checkpoint of ``--init``, or None to start from scratch.

    Raises UserError if MODEL does not exist or cannot be trained, or if ``--model`` names a different network.
    """
    if config.init in (None, "none"):
        return None
    name = SHIPPED if config.init == "auto" else str(config.init)
    if name.endswith(".onnx"):
        raise UserError(f"--init {name}: an exported model cannot be trained; use its checkpoint")
    start = Start(name, *read_model(name))
    if config.model not in (None, start.card.model):
        raise UserError(
            f"--init {name} holds {start.card.model}, not {config.model}; leave --model out, or use --init none"
        )
    return start
