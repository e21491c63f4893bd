"""Where the package keeps what it downloads or computes once; never the data folders themselves."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$RAN_DATA, or ~/.cache/residual_attention/data."""
    return Path(os.environ.get("RAN_DATA") or Path.home() / ".cache" / "residual_attention" / "data")
