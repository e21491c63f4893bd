"""Checkpoint files: writing, reading, and loading a network from one."""

from .card import CLASSIFICATION, DETECTION, Card, read_card
from .classifier import Classifier
from .format import CheckpointError, read_checkpoint, save_checkpoint
from .load import list_weights, load, model_weights, read_model, resolve_model

__all__ = [
    "CLASSIFICATION",
    "Card",
    "CheckpointError",
    "Classifier",
    "DETECTION",
    "list_weights",
    "load",
    "model_weights",
    "read_card",
    "read_checkpoint",
    "read_model",
    "resolve_model",
    "save_checkpoint",
]
