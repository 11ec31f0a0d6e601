"""The probe refuses what looks like a store and is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from evergraft.errors import NotFoundError, PermissionDeniedError, StoreUnavailableError, UserError
from evergraft.store.probe import probe
from evergraft.store.seam import Created, Entry, Landed, Store, Unknown
from evergraft.testing.faults import FaultyStore


@dataclass(eq=False)
class Overwriting:
    """An S3 look-alike that ignores If-None-Match, at least while `ignores` says so."""

    inner: Store
    ignores: Callable[[str], bool] = lambda key: True

    @property
    def url(self) -> str:
        return self.inner.url

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> Created:
        if not self.ignores(key):
            return self.inner.put_if_absent(key, data)
        self.inner.put(key, data)
        return Landed()

    def list(self, prefix: str) -> Iterator[Entry]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)


@dataclass(eq=False)
class Forgetful(Overwriting):
    """A store whose other clients see new objects later, or do not list them."""

    sees: bool = False
    own: set[str] = field(default_factory=set)

    def put_if_absent(self, key: str, data: bytes) -> Created:
        self.own.add(key)
        return self.inner.put_if_absent(key, data)

    def get(self, key: str) -> bytes:
        if key not in self.own and not self.sees:
            raise NotFoundError(key)
        return self.inner.get(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        return iter(())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Overwriting, "a second create overwrote the first"),
        (lambda inner: Overwriting(inner, ignores=lambda key: key.endswith("race")), "8 won instead of one"),
        (Forgetful, "not seen at once by another client"),
        (lambda inner: Forgetful(inner, sees=True), "missing from the listing"),
    ],
)
def test_an_unfit_store_is_refused_and_left_clean(memory: Store, make: Callable[[Store], Store], message: str) -> None:
    with pytest.raises(UserError, match=message):
        probe(lambda url: make(memory), memory.url)
    assert list(memory.list("")) == []


def test_a_store_without_answers_is_unavailable_not_unfit(memory: Store) -> None:
    silent = FaultyStore(memory, after=lambda key, outcome: Unknown("timed out"))
    with pytest.raises(StoreUnavailableError, match="timed out"):
        probe(lambda url: silent, memory.url)


def test_a_store_that_forbids_deleting_is_fit(memory: Store) -> None:
    def forbid(operation: str, key: str) -> None:
        if operation == "delete":
            raise PermissionDeniedError("workers delete nothing")

    probe(lambda url: FaultyStore(memory, before=forbid), memory.url)
    assert all(entry.key.startswith("probe/") for entry in memory.list(""))
