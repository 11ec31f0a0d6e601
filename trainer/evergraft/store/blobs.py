"""Modules and routes in the store, by content id: written once, checked at every read.

Writing is a conditional create: of equal bytes the first stands, and damaged bytes under the name are found out.
Called by the engine (the winner's blobs), the trainer (a route's modules) and verify.
"""

from __future__ import annotations

from collections.abc import Iterable

from evergraft import canonical, names
from evergraft.errors import IntegrityError, StoreUnavailableError
from evergraft.graph.module import Module, decode, encode
from evergraft.graph.route import Route, reading
from evergraft.store import documents, parallel
from evergraft.store.cache import ModuleCache
from evergraft.store.info import get_named
from evergraft.store.seam import Landed, Lost, Store

MAX_ROUTE_BYTES = 64 << 20
ADVICE = "put it back from a copy or a backup"
"""What to do where a blob is gone."""


def put_module(store: Store, module: Module) -> int:
    """Make sure the module's blob is in the store; the bytes of its file, as `AddModules` wants them.

    Raises:
        IntegrityError: damaged bytes stand under its name.
        StoreUnavailableError: not known whether it landed; asking again is safe.
    """
    data = encode(module)
    standing = _put_blob(store, names.module_key(module.id), data)
    if standing is None:
        return len(data)
    decode(standing, expected_id=module.id)
    return len(standing)


def put_modules(store: Store, modules: Iterable[Module]) -> dict[str, int]:
    """Put several at once: id to bytes of its file. Raises as `put_module` does."""
    wanted = {module.id: module for module in modules}
    return dict(zip(wanted, parallel.each(lambda module: put_module(store, module), wanted.values()), strict=True))


def get_module(store: Store, module_id: str, *, cache: ModuleCache | None = None) -> Module:
    """The module of that id, from the cache or the store, its id recomputed; tensors are views into the bytes read.

    Raises:
        IntegrityError: the store has no such blob any more, or its bytes hash to another id.
    """
    kept = cache.get(module_id) if cache else None
    if kept is not None:
        return kept
    data = get_named(store, names.module_key(module_id), advice=ADVICE)
    module = decode(data, expected_id=module_id)
    if cache is not None:
        cache.put(module_id, data)
    return module


def get_modules(store: Store, ids: Iterable[str], *, cache: ModuleCache | None = None) -> dict[str, Module]:
    """Several modules at once, by id. Raises as `get_module` does."""
    wanted = list(dict.fromkeys(ids))
    found = parallel.each(lambda module_id: get_module(store, module_id, cache=cache), wanted)
    return dict(zip(wanted, found, strict=True))


def put_route(store: Store, route: Route) -> str:
    """Make sure the route document is in the store; its id.

    Raises:
        DataError: it is larger than its readers take; nothing is written.
        IntegrityError: other bytes stand under its name.
        StoreUnavailableError: not known whether it landed; asking again is safe.
    """
    data = documents.check_size(route.encode(), what=f"the route of {route.task}", max_bytes=MAX_ROUTE_BYTES)
    route_id = canonical.sha256(data)
    if _put_blob(store, names.route_key(route_id), data) is not None:
        raise IntegrityError(f"{store.url}: the bytes under {names.route_key(route_id)} are damaged")
    return route_id


def get_route(store: Store, route_id: str) -> Route:
    """The route document of that id, its digest checked.

    Raises:
        IntegrityError: the store has no such document any more, its bytes have another digest, or it is no route.
        FormatError: written by a newer format.
    """
    key = names.route_key(route_id)
    data = get_named(store, key, advice=ADVICE)
    if canonical.sha256(data) != route_id:
        raise IntegrityError(f"route {route_id[:12]}…: its bytes have another digest, so they are damaged")
    with reading(key):
        return Route.from_json(documents.decode(data, what=key, max_bytes=MAX_ROUTE_BYTES))


def put_optimizer(store: Store, route_id: str, data: bytes) -> None:
    """Make sure that optimiser state is kept with the route: of several, the first stands.

    Raises:
        StoreUnavailableError: not known whether it landed; asking again is safe.
    """
    _put_blob(store, names.optimizer_key(route_id), data)


def _put_blob(store: Store, key: str, data: bytes) -> bytes | None:
    """None if exactly `data` stands under `key` now, else the bytes that do.

    Does not ask first: a commit's new blobs are rarely there, and each question would be one more operation.
    """
    outcome = store.put_if_absent(key, data)
    if isinstance(outcome, Landed):
        return None
    if isinstance(outcome, Lost):
        return outcome.data
    raise StoreUnavailableError(f"{store.url}: {key} may or may not be written ({outcome.reason}); run again")
