"""Whether a command asks for the run that a folder holds already."""

from pathlib import Path

from ..checkpoints.card import read_card
from ..errors import UserError
from .config import RunConfig
from .runfolder import RunFolder

IDENTITY = ("data", "model", "seed", "batch_size", "lr", "optimizer", "image_size", "folds", "fold")


def check_same_run(config: RunConfig, run: Path) -> None:
    """Raise UserError if the folder's run was started with other settings than ``config``, by the main ones.

    A setting that is left open in ``config`` was resolved from the data when the run began.
    """
    path = RunFolder(run).last
    begun = read_card(path).config
    for name in IDENTITY:
        asked = getattr(config, name, None)
        if asked is not None and name in begun and begun[name] not in (None, asked):
            raise UserError(
                f"{run} holds a run with {name} {begun[name]}, not {asked}; choose another --out, or leave out "
                "`--resume auto`"
            )
