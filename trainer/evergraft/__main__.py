"""`python -m evergraft`: the command line, as `run --workers` starts it."""

from __future__ import annotations

import sys

from evergraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
