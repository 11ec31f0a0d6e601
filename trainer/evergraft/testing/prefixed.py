"""A store below another store's prefix, with clients of its own: a place to try things and clean up.

Called by the deep check, which must not touch what else lies under the user's URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evergraft.store.seam import Created, Entry, Store


@dataclass(eq=False)
class PrefixedStore:
    """Every key of `inner` that begins with `prefix`, without it; the prefix ends with a slash."""

    inner: Store
    prefix: str

    @property
    def url(self) -> str:
        """The inner store's, with the prefix."""
        return f"{self.inner.url}/{self.prefix.rstrip('/')}"

    def get(self, key: str) -> bytes:
        """The whole object."""
        return self.inner.get(self.prefix + key)

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite the object."""
        self.inner.put(self.prefix + key, data)

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """Create the object unless its name is taken."""
        return self.inner.put_if_absent(self.prefix + key, data)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, ordered by key."""
        for entry in self.inner.list(self.prefix + prefix):
            yield replace(entry, key=entry.key.removeprefix(self.prefix))

    def delete(self, key: str) -> None:
        """Delete the object."""
        self.inner.delete(self.prefix + key)
