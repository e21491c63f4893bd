"""Experiment trackers beside TensorBoard: Weights & Biases, MLflow, Trackio, each through its own library.

A tracker gets the configuration without this machine's paths, the scalars of steps and epochs, and the final metrics;
no images, weights or code. Where it sends them is the library's own setting (``WANDB_MODE=offline``,
``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``). A resumed run goes on in the same record.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

from ..atomic import write_atomically
from ..errors import UserError

Kind = Literal["wandb", "mlflow", "trackio"]
PROJECT = "residual-attention"
RECORD = "tracking.json"  # in the run folder: by tracker, the identity of the run's record
MOST_CHARACTERS = 500  # of a parameter, in MLflow


class Tracker(ABC):
    """A context: leaving it ends the record, as failed after an error. ``identity`` names the record for a resume."""

    identity: str

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None: ...
    @abstractmethod
    def finish(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the final metrics."""

    @abstractmethod
    def close(self, failed: bool) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self.close(kind is not None)


class _Wandb(Tracker):
    def __init__(self, name: str, folder: Path, config: Mapping[str, Any], identity: str | None) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        quiet = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
        self.run = wandb.init(
            project=PROJECT,
            name=name,
            id=identity,
            resume="allow",
            dir=str(folder),
            config=dict(config),
            settings=quiet,
        )
        self.identity = self.run.id

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.summary.update(dict(metrics))

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class _Mlflow(Tracker):
    def __init__(self, name: str, folder: Path, config: Mapping[str, Any], identity: str | None) -> None:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        self.client: Any = MlflowClient()
        if identity is None:
            known = self.client.get_experiment_by_name(PROJECT)
            experiment = self.client.create_experiment(PROJECT) if known is None else known.experiment_id
            identity = self.client.create_run(experiment, run_name=name).info.run_id
            for key, value in config.items():
                self.client.log_param(identity, key, str(value)[:MOST_CHARACTERS])
        self.identity = str(identity)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.identity, name, value, step=step)

    def finish(self, metrics: Mapping[str, float], step: int) -> None:
        self.log(metrics, step)

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.identity, "FAILED" if failed else "FINISHED")


class _Trackio(Tracker):
    def __init__(self, name: str, folder: Path, config: Mapping[str, Any], identity: str | None) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        self.identity = identity or name
        self.run = trackio.init(
            project=PROJECT, name=self.identity, config=dict(config), resume="allow", embed=False, auto_log_cpu=False
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self, metrics: Mapping[str, float], step: int) -> None:
        self.log(metrics, step)

    def close(self, failed: bool) -> None:
        self.run.finish()


_TRACKERS: dict[str, type[Tracker]] = {"wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}


def require_tracker(kind: str) -> None:
    """Raise UserError if the tracker's library is missing: called before a run has a folder."""
    if find_spec(kind) is None:
        raise UserError(f"--track {kind} needs the package {kind}: pip install 'residual-attention[{kind}]'")


def open_tracker(kind: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    """Start the record of the run in ``folder``, or go on with it.

    Raises UserError if the library is missing, or does not start.
    """
    path = folder / RECORD
    known: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    try:
        tracker = _TRACKERS[kind](folder.resolve().name, folder, config, known.get(kind))  # type: ignore[call-arg]
    except ModuleNotFoundError as error:
        raise UserError(
            f"--track {kind} needs the package {error.name}: pip install 'residual-attention[{kind}]'"
        ) from None
    except Exception as error:  # each library has its own, for a server that does not answer or a login that is missing
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"--track {kind} cannot start: {reason}") from error
    write_atomically(path, json.dumps(known | {kind: tracker.identity}).encode())
    return tracker
