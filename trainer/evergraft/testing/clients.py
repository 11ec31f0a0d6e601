"""The faults of a network, injected between an object store and its fsspec client.

Errors are raised as gcsfs and s3fs raise them, so what the store makes of them (a lost answer settled by reading
back, a lost race told from our own write, retries) is what is tested. Called by tests over gs, s3 and fsspec's own
memory file system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from evergraft.store.clients import Client
from evergraft.testing.faults import half
from evergraft.testing.injection import Faults, Injected, Result


def faulty_client(client: Client, faults: Faults) -> Client:
    """`client`, every call of which goes through `faults`."""
    return replace(client, make=lambda: FaultySystem(client.make(), faults))


@dataclass(eq=False)
class FaultySystem:
    """The few calls of an fsspec file system that a store makes."""

    system: Any
    faults: Faults

    def cat_file(self, path: str, **options: Any) -> bytes:
        """Read an object."""
        return self._through("get", path, lambda: bytes(self.system.cat_file(path, **options)))

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        """Write an object, or create it."""
        name = "put_if_absent" if mode == "create" else "put"
        write = self.system.pipe_file
        torn = lambda: write(path, half(data), mode=mode)  # noqa: E731
        self._through(name, path, lambda: write(path, data, mode=mode), torn=torn)

    def find(self, path: str, **options: Any) -> Any:
        """List objects."""
        return self._through("list", path, lambda: self.system.find(path, **options))

    def rm_file(self, path: str) -> None:
        """Delete an object."""
        self._through("delete", path, lambda: self.system.rm_file(path))

    def _through(
        self, name: str, path: str, act: Callable[[], Result], *, torn: Callable[[], object] | None = None
    ) -> Result:
        try:
            return self.faults.carry_out(name, path, act, torn=torn)
        except Injected as injected:
            raise injected.error from None
