"""A store that tells an observer about every operation: name, outcome, seconds, bytes. For metrics.

Called by the worker, which counts with Prometheus; the core does not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from evergraft.errors import EvergraftError, NotFoundError
from evergraft.store.seam import Created, Entry, Store

T = TypeVar("T")


@dataclass(frozen=True)
class Operation:
    """One finished call. `area` is the key's first folder; `outcome` ok, not_found, landed, lost, unknown or error."""

    name: str
    area: str
    outcome: str
    seconds: float
    sent: int = 0
    received: int = 0


@dataclass(frozen=True)
class MeteredStore:
    """Passes every call on to `inner` and tells `observe` how it went."""

    inner: Store
    observe: Callable[[Operation], None]

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    def get(self, key: str) -> bytes:
        """The inner store's, told with the bytes received."""
        return self._call("get", key, lambda: self.inner.get(key), received=len)

    def put(self, key: str, data: bytes) -> None:
        """The inner store's, told with the bytes sent."""
        self._call("put", key, lambda: self.inner.put(key, data), sent=len(data))

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """The inner store's, told with its outcome and the bytes sent."""
        return self._call(
            "put_if_absent", key, lambda: self.inner.put_if_absent(key, data), sent=len(data), outcome=_outcome
        )

    def list(self, prefix: str) -> Iterator[Entry]:
        """The inner store's; read to its end at once, so that its time can be told."""
        yield from self._call("list", prefix, lambda: list(self.inner.list(prefix)))

    def delete(self, key: str) -> None:
        """The inner store's."""
        self._call("delete", key, lambda: self.inner.delete(key))

    def _call(
        self,
        name: str,
        key: str,
        act: Callable[[], T],
        *,
        sent: int = 0,
        received: Callable[[T], int] = lambda _: 0,
        outcome: Callable[[T], str] = lambda _: "ok",
    ) -> T:
        area, began = key.partition("/")[0], time.perf_counter()
        try:
            result = act()
        except EvergraftError as error:
            ended = "not_found" if isinstance(error, NotFoundError) else "error"
            self.observe(Operation(name, area, ended, time.perf_counter() - began, sent=sent))
            raise
        seconds = time.perf_counter() - began
        self.observe(Operation(name, area, outcome(result), seconds, sent=sent, received=received(result)))
        return result


def _outcome(created: Created) -> str:
    return type(created).__name__.lower()
