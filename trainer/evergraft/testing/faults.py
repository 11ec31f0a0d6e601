"""A store that goes wrong on purpose: answers get lost, others come first, requests fail. For tests.

Wraps any store; each fault is a function that is asked before or after an operation. Called by our own tests and by
anyone who wants to see that their code survives a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from evergraft.store.seam import Created, Entry, Store

Before = Callable[[str, str], None]
"""Asked with (operation, key) before it is done; may raise, or do something first."""

After = Callable[[str, Created], Created]
"""Asked with (key, outcome) after a conditional create; returns what the caller is told."""


def _nothing(operation: str, key: str) -> None:
    del operation, key


def _truth(key: str, outcome: Created) -> Created:
    del key
    return outcome


@dataclass(frozen=True, eq=False)
class FaultyStore:
    """Passes calls on to `inner`, through `before` and, for conditional creates, `after`."""

    inner: Store
    before: Before = _nothing
    after: After = _truth

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    def get(self, key: str) -> bytes:
        """The inner store's, unless `before` raises."""
        self.before("get", key)
        return self.inner.get(key)

    def put(self, key: str, data: bytes) -> None:
        """The inner store's, unless `before` raises."""
        self.before("put", key)
        self.inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """The inner store's, told as `after` says."""
        self.before("put_if_absent", key)
        return self.after(key, self.inner.put_if_absent(key, data))

    def list(self, prefix: str) -> Iterator[Entry]:
        """The inner store's, unless `before` raises."""
        self.before("list", prefix)
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """The inner store's, unless `before` raises."""
        self.before("delete", key)
        self.inner.delete(key)
