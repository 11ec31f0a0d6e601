"""A store in this process's memory: ``memory://name``. For tests and for trying things out.

Two stores of one name share their objects, as two clients of one bucket do. Safe for threads, gone with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from evergraft.errors import NotFoundError
from evergraft.store.keys import check_key, check_prefix
from evergraft.store.seam import Created, Entry, Landed, Lost

_STORES: dict[str, dict[str, tuple[bytes, float]]] = {}
_LOCK = threading.Lock()


class MemoryStore:
    """Objects in a dictionary that all stores of the same name in this process share."""

    def __init__(self, name: str) -> None:
        self._name = name
        with _LOCK:
            self._objects = _STORES.setdefault(name, {})

    @property
    def url(self) -> str:
        """``memory://`` and the name."""
        return f"memory://{self._name}"

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError if there is none."""
        with _LOCK:
            found = self._objects.get(check_key(key))
        if found is None:
            raise NotFoundError(f"{self.url}: {key} does not exist")
        return found[0]

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite the object."""
        with _LOCK:
            self._objects[check_key(key)] = (bytes(data), time.time())

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """Create the object unless its name is taken."""
        with _LOCK:
            standing, _ = self._objects.setdefault(check_key(key), (bytes(data), time.time()))
        return Landed() if standing == data else Lost(standing)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, ordered by key."""
        check_prefix(prefix)
        with _LOCK:
            found = [Entry(key, len(data), at) for key, (data, at) in self._objects.items() if key.startswith(prefix)]
        yield from sorted(found, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Delete the object; deleting what is not there is no error."""
        with _LOCK:
            self._objects.pop(check_key(key), None)
