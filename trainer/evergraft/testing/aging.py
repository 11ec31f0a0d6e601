"""A store whose clock stands still until it is told to move on, so that grace periods pass in no time.

Wraps any store; every client that shares the clock sees the same times of writing. `before` is called ahead of each
operation and may act, or raise to cut a process off. Called by tests of gc, ours and anyone's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from evergraft.store.seam import Created, Entry, Landed, Store

Before = Callable[[str, str], None]
"""Told the operation (get, put, put_if_absent, list, delete) and the key."""


def nothing(operation: str, key: str) -> None:
    """Let the operation pass."""
    del operation, key


@dataclass
class Clock:
    """The store's own time in seconds since the epoch, and when each key was written by it."""

    now: float = 1_000_000_000.0
    written: dict[str, float] = field(default_factory=dict)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def __call__(self) -> float:
        """The time, for whoever wants a clock."""
        return self.now


@dataclass(eq=False)
class AgingStore:
    """One client of `inner` under `clock`."""

    inner: Store
    clock: Clock
    before: Before = nothing

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    def get(self, key: str) -> bytes:
        """The inner store's."""
        self.before("get", key)
        return self.inner.get(key)

    def put(self, key: str, data: bytes) -> None:
        """The inner store's; the key is new from now on."""
        self.before("put", key)
        self.inner.put(key, data)
        self.clock.written[key] = self.clock.now

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """The inner store's; a key that stood already keeps its time."""
        self.before("put_if_absent", key)
        outcome = self.inner.put_if_absent(key, data)
        if isinstance(outcome, Landed):
            self.clock.written.setdefault(key, self.clock.now)
        return outcome

    def list(self, prefix: str) -> Iterator[Entry]:
        """The inner store's, with the times of this clock."""
        self.before("list", prefix)
        for entry in self.inner.list(prefix):
            yield replace(entry, modified=self.clock.written.get(entry.key, entry.modified))

    def delete(self, key: str) -> None:
        """The inner store's."""
        self.before("delete", key)
        self.inner.delete(key)
        self.clock.written.pop(key, None)
