"""``python -m residual_attention`` runs ``ran``; torchrun starts it this way."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
