"""A store that writes down what is asked of it: (operation, key, bytes). For tests, budgets and metrics.

Wraps any store. Promises about cost (only a route's own modules are read, a commit costs what it changes) are held
by tests that look at this record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evergraft.store.seam import Created, Entry, Store


@dataclass(frozen=True)
class Operation:
    """One call: `name` is get, put, put_if_absent, list or delete; `size` the bytes read or sent."""

    name: str
    key: str
    size: int


@dataclass(eq=False)
class RecordingStore:
    """Passes every call on to `inner` and keeps a record; a read that finds nothing counts with 0 bytes."""

    inner: Store
    operations: list[Operation] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    @property
    def reads(self) -> list[Operation]:
        """The operations that asked: get and list."""
        return [operation for operation in self.operations if operation.name in ("get", "list")]

    @property
    def writes(self) -> list[Operation]:
        """The operations that changed something, or tried to."""
        return [operation for operation in self.operations if operation.name not in ("get", "list")]

    def get(self, key: str) -> bytes:
        """The inner store's, recorded with the bytes read."""
        data = b""
        try:
            data = self.inner.get(key)
        finally:
            self._record("get", key, len(data))
        return data

    def put(self, key: str, data: bytes) -> None:
        """The inner store's, recorded with the bytes sent."""
        self._record("put", key, len(data))
        self.inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """The inner store's, recorded with the bytes sent."""
        self._record("put_if_absent", key, len(data))
        return self.inner.put_if_absent(key, data)

    def list(self, prefix: str) -> Iterator[Entry]:
        """The inner store's, recorded once."""
        self._record("list", prefix, 0)
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """The inner store's, recorded."""
        self._record("delete", key, 0)
        self.inner.delete(key)

    def _record(self, name: str, key: str, size: int) -> None:
        self.operations.append(Operation(name, key, size))
