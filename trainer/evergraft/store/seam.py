"""The seam to the store: get, put, put-if-absent, list, delete. Everything above works on any backend.

Keys are relative to the root URL and use ``/``. Every call is blocking, complete (no partial object is ever
visible) and raises only errors of ``evergraft.errors``. Called by blobs, the log, searches and probes; implemented
by ``memory``, ``files`` and ``objects`` (gs and s3 through fsspec).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Landed:
    """The object is ours: written now, or found to be the write whose answer was lost."""


@dataclass(frozen=True)
class Lost:
    """Another write holds the name; `data` is what it wrote."""

    data: bytes


@dataclass(frozen=True)
class Unknown:
    """Neither could be established within the retries: the store does not answer. `reason` says what it said."""

    reason: str


Created = Landed | Lost | Unknown
"""The three outcomes of a conditional create."""


@dataclass(frozen=True)
class Entry:
    """One listed object: key, size in bytes, and the store's own time of its last write (seconds since the epoch)."""

    key: str
    size: int
    modified: float


class Store(Protocol):
    """One root URL. Raises NotFoundError, StoreUnavailableError, StoreFullError or PermissionDeniedError."""

    @property
    def url(self) -> str:
        """The root URL, without credentials, for messages."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError if there is none."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite the object, atomically."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """Create the object unless its name is taken.

        Decided by reading the name back, so `data` must differ between writers (carry a write id) unless equal
        bytes mean the same thing, as for content-addressed blobs.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, ordered by key. Fresh: never from a cache."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object; deleting what is not there is no error."""
        ...
