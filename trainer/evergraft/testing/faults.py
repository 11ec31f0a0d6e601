"""A store that goes wrong on purpose: answers get lost, others come first, requests fail, stall, come twice or late.

`FaultyStore` wraps any store and shows each fault the way the seam shows it; `clients.faulty_client` injects the
same faults below an object store, the way a client raises them. A plan says which operation fails and how. Called
by our own tests, by `graph check --deep`, and by anyone who wants to see that their code survives a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from evergraft.errors import EvergraftError, StoreUnavailableError
from evergraft.store.failures import translate
from evergraft.store.seam import Created, Entry, Store, Unknown
from evergraft.testing.injection import Faults, Injected, Plan, calm

Before = Callable[[str, str], None]
"""Asked with (operation, key) before it is done; may raise, or do something first."""

After = Callable[[str, Created], Created]
"""Asked with (key, outcome) after a conditional create; returns what the caller is told."""


def _nothing(operation: str, key: str) -> None:
    del operation, key


def _truth(key: str, outcome: Created) -> Created:
    del key
    return outcome


@dataclass(eq=False)
class FaultyStore:
    """Passes calls on to `inner`, through `before`, the `plan` of faults and, for conditional creates, `after`."""

    inner: Store
    plan: Plan = calm
    before: Before = _nothing
    after: After = _truth
    faults: Faults = field(init=False)
    """What was asked, what went wrong, what is still under way; its `plan` may be exchanged."""

    def __post_init__(self) -> None:
        self.faults = Faults(plan=self.plan)

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    def get(self, key: str) -> bytes:
        """The inner store's, unless a fault strikes."""
        self.before("get", key)
        try:
            return self.faults.carry_out("get", key, lambda: self.inner.get(key))
        except Injected as injected:
            raise self._translated(injected, key) from injected.error

    def put(self, key: str, data: bytes) -> None:
        """The inner store's, unless a fault strikes."""
        self.before("put", key)
        try:
            self.faults.carry_out("put", key, lambda: self.inner.put(key, data), torn=lambda: self._tear(key, data))
        except Injected as injected:
            raise self._translated(injected, key) from injected.error

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """The inner store's, told as `after` says; a fault that may pass is told as unknown, as the seam does."""
        self.before("put_if_absent", key)
        try:
            outcome = self.faults.carry_out(
                "put_if_absent",
                key,
                lambda: self.inner.put_if_absent(key, data),
                torn=lambda: self.inner.put_if_absent(key, half(data)),
            )
        except Injected as injected:
            failure = self._translated(injected, key)
            if not isinstance(failure, StoreUnavailableError):
                raise failure from injected.error
            outcome = Unknown(str(failure))
        return self.after(key, outcome)

    def list(self, prefix: str) -> Iterator[Entry]:
        """The inner store's, unless a fault strikes."""
        self.before("list", prefix)
        try:
            return iter(self.faults.carry_out("list", prefix, lambda: [*self.inner.list(prefix)]))
        except Injected as injected:
            raise self._translated(injected, prefix) from injected.error

    def delete(self, key: str) -> None:
        """The inner store's, unless a fault strikes."""
        self.before("delete", key)
        try:
            self.faults.carry_out("delete", key, lambda: self.inner.delete(key))
        except Injected as injected:
            raise self._translated(injected, key) from injected.error

    def _tear(self, key: str, data: bytes) -> None:
        self.inner.put(key, half(data))

    def _translated(self, injected: Injected, key: str) -> EvergraftError:
        return translate(injected.error, where=f"{self.url}/{key}")


def half(data: bytes) -> bytes:
    """What a write that was cut off leaves where writes are not atomic."""
    return data[: len(data) // 2]
