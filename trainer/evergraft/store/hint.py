"""The hint: a recent version and its newest checkpoint, so that a reader need not list. Best effort.

It may be stale, absent, garbage or ahead of the log; whoever reads it checks what it says. Written by whoever
commits, at most every 5 seconds per process and URL; a failure to write it is nobody's concern.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from evergraft import canonical, names
from evergraft.errors import EvergraftError
from evergraft.graph.state import Graph
from evergraft.store import documents
from evergraft.store.seam import Store

EVERY_S = 5.0
MAX_BYTES = 4096

_log = logging.getLogger(__name__)
_written: dict[str, float] = {}
"""When this process last wrote the hint of a URL, by its monotonic clock."""


@dataclass(frozen=True)
class Hint:
    """A version that someone committed, and the newest checkpoint known then; -1 for none."""

    version: int
    checkpoint: int


def read_hint(store: Store) -> Hint | None:
    """What the hint says, None if it says nothing usable. Never an error: readers do without."""
    try:
        value = documents.decode(store.get(names.HINT), what="hint", max_bytes=MAX_BYTES)
        hint = Hint(version=value["version"], checkpoint=value["checkpoint"])
    except (EvergraftError, KeyError):
        return None
    numbers = (hint.version, hint.checkpoint)
    return hint if all(type(number) is int and -1 <= number < 10**18 for number in numbers) else None


def write_hint(store: Store, graph: Graph) -> None:
    """Leave a hint of `graph`'s version, unless this process did so in the last 5 seconds. Never an error."""
    now = time.monotonic()
    if now - _written.get(store.url, -EVERY_S) < EVERY_S:
        return
    _written[store.url] = now
    value = {"format": canonical.FORMAT, "version": graph.version, "checkpoint": graph.checkpoint}
    try:
        store.put(names.HINT, canonical.dumps(value))
    except EvergraftError as error:
        _log.debug("the hint was not written: %s", error)
