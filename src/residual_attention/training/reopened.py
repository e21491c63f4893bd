"""The configuration of a run that goes on."""

from pathlib import Path
from typing import Any

from ..checkpoints.card import Card
from ..errors import UserError
from .config import RunConfig
from .task import TaskEntry


def reopened_config(
    last: Path, card: Card, entry: TaskEntry, epochs: int | None, steps: int | None, changes: dict[str, Any]
) -> RunConfig:
    """The configuration in the checkpoint ``last`` with the requested changes.

    Raises UserError if it is damaged or the new end has already passed.
    """
    if card.training is None:
        raise UserError("the run's checkpoint has no training state, so it cannot be resumed")
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("grad_checkpointing") and card.config.get("compile") == "on":
        given.setdefault("compile", "off")
    if "device" in given and card.config.get("fused") == "on":
        given["fused"] = "auto"
    if {"device", "compile", "accumulate", "grad_checkpointing"} & given.keys():
        given["cuda_graphs"] = "auto"
    before = {"fused": "off"}  # what a run did whose configuration does not have the option yet
    try:
        entry.config.from_dict({**before, **card.config})
    except UserError as error:
        raise UserError(f"{last} is damaged, its configuration cannot be used: {error}") from error
    config = entry.config.from_dict({**before, **card.config, **given})
    progress = card.training["progress"]
    for name, asked, done in (("epochs", epochs, progress["epoch"]), ("steps", steps, progress["step"])):
        if asked is not None and asked < done:
            raise UserError(f"{done} {name} are already done; --{name} must be at least that, not {asked}")
    return config.lasting(epochs=epochs, steps=None if epochs is not None else steps)
