"""Settings of the whole suite."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
