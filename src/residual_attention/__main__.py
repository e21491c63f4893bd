"""``python -m residual_attention``, which torchrun starts, is ``ran``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
