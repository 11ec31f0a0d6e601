"""What happens to a store from outside: hints that lie, a backup put back, objects torn in half.

Called by tests, to show that readers do not care about the first, notice the last, and survive the second.
"""

from __future__ import annotations

from evergraft import canonical, names
from evergraft.store.seam import Store
from evergraft.testing.faults import half


def plant_hint(store: Store, *, version: int, checkpoint: int = -1) -> None:
    """Leave a hint that says so, true or not."""
    value = {"format": canonical.FORMAT, "version": version, "checkpoint": checkpoint}
    store.put(names.HINT, canonical.dumps(value))


def rewind(store: Store, version: int) -> None:
    """A backup of `version` put back badly: newer commits are gone, newer hints, checkpoints and blobs are not."""
    for entry in list(store.list(names.LOG)):
        found = names.log_version(entry.key)
        if found is not None and found > version:
            store.delete(entry.key)


def tear(store: Store, key: str) -> None:
    """Cut the object in half, as a store without atomic writes leaves it when the writer dies."""
    store.put(key, half(store.get(key)))
