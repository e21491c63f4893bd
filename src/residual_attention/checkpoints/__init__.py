"""Checkpoint files: writing, reading, and loading a network from one."""

from .format import CheckpointError, read_checkpoint, save_checkpoint
from .load import Classifier, list_weights, load, model_weights, read_model, resolve_model

__all__ = [
    "CheckpointError",
    "Classifier",
    "list_weights",
    "load",
    "model_weights",
    "read_checkpoint",
    "read_model",
    "resolve_model",
    "save_checkpoint",
]
