"""A store in a bucket: ``gs://`` and ``s3://`` through fsspec.

Backends report a lost race differently and retry inside, so our own write that landed can come back as lost. Every
error of a conditional create is therefore unknown until the object is read back: ours means landed, another's means
lost, absent means try the same name again. Transient failures are retried with backoff and counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from evergraft.errors import (
    EvergraftError,
    NotFoundError,
    PermissionDeniedError,
    StoppedError,
    StoreUnavailableError,
    UserError,
)
from evergraft.store.clients import Client
from evergraft.store.failures import translate
from evergraft.store.keys import check_key, check_prefix
from evergraft.store.retry import COUNTERS, Counters, Retry
from evergraft.store.seam import Created, Entry, Landed, Lost, Unknown

Result = TypeVar("Result")

RENEW_AFTER_S = 30.0
"""A refusal of credentials younger than this is no matter of their age."""


class ObjectStore:
    """Objects below `url`. Holds one client per process: fsspec's do not survive a fork."""

    def __init__(self, url: str, *, client: Client, retry: Retry, counters: Counters = COUNTERS) -> None:
        self._url = url
        self._root = url.partition("://")[2]
        self._client = client
        self._retry = retry
        self._attempts = max(1, min(retry.attempts, client.attempts))
        self._counters = counters
        self._lock = threading.Lock()
        self._system: tuple[int, Any] | None = None
        self._made = 0.0

    @property
    def url(self) -> str:
        """The root URL."""
        return self._url

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError if there is none."""
        path = self._path(key)
        return self._try("get", key, lambda: bytes(self._fs().cat_file(path, **self._client.read)))

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite the object; atomic, as objects are."""
        path = self._path(key)
        try:
            self._try("put", key, lambda: self._fs().pipe_file(path, data))
        except NotFoundError:
            raise self._no_bucket() from None

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """Create the object unless its name is taken; any error is decided by reading the name back."""
        path = self._path(key)
        reason = ""
        for attempt in range(self._attempts):
            made = self._made
            try:
                self._fs().pipe_file(path, data, mode="create")
                return Landed()
            except StoppedError:
                raise  # asked to stop: whether it landed is for the next process to find out
            except Exception as error:  # noqa: BLE001 - a client may raise anything, and it may have landed
                failure = translate(error, where=f"{self._url}/{key}")
            if isinstance(failure, PermissionDeniedError) and made > 0.0 and self._renewed(made):
                continue
            decided = self._read_back(key, data, failure)
            if decided is not None:
                return decided
            reason = str(failure)
            self._counters.add("retry put_if_absent")
            if attempt + 1 < self._attempts:
                self._retry.wait(attempt)
        return Unknown(reason)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, ordered by key."""
        folder, _, start = check_prefix(prefix).rpartition("/")
        path = "/".join(part for part in (self._root, folder) if part)
        try:
            found = self._try("list", prefix, lambda: self._fs().find(path, prefix=start, detail=True))
        except NotFoundError:
            found = {}
        wanted = f"{self._root}/{prefix}"  # clients also list what merely begins like the folder
        entries = [
            self._entry(name, facts)
            for name, facts in found.items()
            if facts["type"] == "file" and name.startswith(wanted)
        ]
        yield from sorted(entries, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Delete the object; deleting what is not there is no error."""
        path = self._path(key)
        try:
            self._try("delete", key, lambda: self._fs().rm_file(path))
        except NotFoundError:
            return

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _fs(self) -> Any:
        with self._lock:
            if self._system is None or self._system[0] != os.getpid():
                self._system = (os.getpid(), self._client.make())
                self._made = time.monotonic()
            return self._system[1]

    def _renewed(self, made: float) -> bool:
        """Whether it is worth trying again after the client that was `made` then was refused: its credentials may
        have run out, and another thread may have renewed it already.
        """
        with self._lock:
            if not self._client.renewable:
                return False
            if self._system is not None and self._made == made:
                if time.monotonic() - made < RENEW_AFTER_S:
                    return False
                self._system = None
            return True

    def _try(self, operation: str, key: str, act: Callable[[], Result]) -> Result:
        """Act, again after transient failures. Raises only errors of our tree."""
        for attempt in range(self._attempts):
            made = self._made
            try:
                return act()
            except Exception as error:  # a client may raise anything; translated, never swallowed
                failure = translate(error, where=f"{self._url}/{key}")
                again = isinstance(failure, StoreUnavailableError)
                if isinstance(failure, PermissionDeniedError):
                    again = made > 0.0 and self._renewed(made)
                if not again or attempt + 1 == self._attempts:
                    raise failure from error
            self._counters.add(f"retry {operation}")
            self._retry.wait(attempt)
        raise AssertionError("at least one attempt is made")

    def _read_back(self, key: str, data: bytes, failure: EvergraftError) -> Created | None:
        """What the name says about a create that failed; None while it is not decided.

        Raises:
            EvergraftError: the name is free and the failure is not one that passes.
        """
        try:
            standing = self.get(key)
        except NotFoundError:
            if isinstance(failure, NotFoundError):
                raise self._no_bucket() from None
            if isinstance(failure, StoreUnavailableError):
                return None
            raise failure from None
        except StoreUnavailableError:
            return None
        return Landed() if standing == data else Lost(standing)

    def _no_bucket(self) -> UserError:
        return UserError(
            f"{self._url}: the bucket {self._root.partition('/')[0]} does not exist, or these credentials cannot see it"
        )

    def _entry(self, name: str, facts: dict[str, Any]) -> Entry:
        written = facts.get("mtime") or facts.get("LastModified")
        key = name.removeprefix(f"{self._root}/")
        return Entry(key=key, size=int(facts["size"]), modified=written.timestamp() if written else 0.0)
