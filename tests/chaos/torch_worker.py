"""`evergraft` with a store that ends the process at its N-th operation: torch_worker.py N <arguments of evergraft>."""

from __future__ import annotations

import sys

from evergraft.cli import main
from evergraft.store.open import open_store
from evergraft.testing.worker import KillingStore
from evergraft_trainer import worker

if __name__ == "__main__":
    number = int(sys.argv[1])
    killing = lambda url: KillingStore(open_store(url), at=number, landed=number % 2 == 0)  # noqa: E731
    setattr(worker, "open_store", killing)  # noqa: B010 - in place of what it imported
    sys.exit(main(sys.argv[2:]))
