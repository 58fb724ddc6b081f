"""`python -m vit_edge` is the command `vit-edge`."""

import sys

from vit_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
