"""The cache folder for downloads and computed files. Data folders are never written to."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$RAN_DATA, or ~/.cache/residual_attention/data."""
    return Path(os.environ.get("RAN_DATA") or Path.home() / ".cache" / "residual_attention" / "data")
