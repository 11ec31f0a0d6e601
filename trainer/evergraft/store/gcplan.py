"""What a collection does, as a pure function of what it read: which blobs to condemn, to delete, to call swept.

A blob goes in three steps, each a grace period after the one before: condemned, deleted, swept. Only the last frees
its name, so that a delete which arrives late cannot meet a blob that was put again. Called by gc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evergraft import names
from evergraft.store.gcfacts import Facts, SearchFolder
from evergraft.store.seam import Entry

MAX_IDS = 100_000
"""At most so many ids in one action; the rest waits for the next collection."""


@dataclass(frozen=True)
class Plan:
    """What to do. `delete` maps condemned ids to the keys that hold them; `expired` are optimiser states to delete.

    `condemned` counts what stands condemned already and is not due yet. `freed` is in bytes.
    """

    version: int
    kept: int
    condemn: tuple[str, ...] = ()
    delete: Mapping[str, tuple[str, ...]] | None = None
    swept: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    folders: tuple[SearchFolder, ...] = ()
    probes: tuple[str, ...] = ()
    open_searches: tuple[str, ...] = ()
    waiting: int = 0
    freed: int = 0


def plan(facts: Facts, *, grace_s: float) -> Plan:
    """Decide. Nothing younger than `grace_s` is touched, and nothing that anyone may still need: see `used`."""
    keep = used(facts, grace_s=grace_s)
    present = _keys(facts.blobs, (names.MODULES, names.ROUTES))
    condemned = facts.history.condemned
    due = {
        blob: present[blob]
        for blob, (first, _) in sorted(condemned.items())
        if blob in present and _age(facts, facts.committed.get(first, 0.0)) >= grace_s
    }
    gone = (
        blob
        for blob, (_, last) in sorted(condemned.items())
        if blob not in present and _age(facts, facts.committed.get(last, 0.0)) >= grace_s
    )
    fresh = (
        blob
        for blob, keys in sorted(present.items())
        if blob not in keep and blob not in condemned and _youngest(facts, keys) >= grace_s
    )
    states = _keys(facts.blobs, (names.OPTIMIZER,))
    alive = _serving(facts) | _named(facts)
    expired = [
        key
        for route, keys in states.items()
        for key in keys
        if route not in alive and _youngest(facts, keys) >= grace_s
    ]
    over = tuple(folder for folder in facts.searches if _is_over(facts, folder, grace_s))
    delete = dict(list(due.items())[:MAX_IDS])
    swept = tuple(gone)[:MAX_IDS]
    return Plan(
        version=facts.graph.version,
        kept=len(keep & present.keys()),
        condemn=tuple(fresh)[:MAX_IDS],
        delete=delete,
        swept=swept,
        expired=tuple(sorted(expired)),
        folders=over,
        probes=tuple(entry.key for entry in facts.probes if _age(facts, entry.modified) >= grace_s),
        open_searches=tuple(
            sorted(_name(folder) for folder in facts.searches if not folder.closed and folder not in over)
        ),
        waiting=len(condemned) - len(delete) - len(swept),
        freed=sum(facts.blobs[key].size for keys in (*delete.values(), expired) for key in keys),
    )


def used(facts: Facts, *, grace_s: float) -> set[str]:
    """Every id that must stay.

    That is: modules and documents of the routes that serve at HEAD, or served at the base of an open search, which
    may build on them; what results of open searches name; and the documents of all ancestors of those and of routes
    too young to be condemned, since lineage must lead to the root.
    """
    parents = {span.route.id: span.route.parent for span in facts.history.all_spans()}
    modules = {
        module
        for span in facts.history.all_spans()
        if _serves(facts, span.first, span.end)
        for module in span.route.module_ids()
    }
    named = _named(facts)
    present = _keys(facts.blobs, (names.ROUTES,))
    young = {route for route in parents if route in present and _youngest(facts, present[route]) < grace_s}
    young -= facts.history.condemned.keys()
    return modules | named | _with_ancestors(_serving(facts) | named | young, parents)


def _serving(facts: Facts) -> set[str]:
    """Ids of the routes that serve at HEAD or served at the base of an open search."""
    return {span.route.id for span in facts.history.all_spans() if _serves(facts, span.first, span.end)}


def _serves(facts: Facts, first: int, end: int | None) -> bool:
    bases = (search.base for search in facts.searches if not search.closed and search.base is not None)
    return end is None or any(first <= base < end for base in bases)


def _named(facts: Facts) -> set[str]:
    return {blob for search in facts.searches if not search.closed for blob in search.named}


def _with_ancestors(routes: Iterable[str], parents: Mapping[str, str | None]) -> set[str]:
    found: set[str] = set()
    todo = list(routes)
    while todo:
        route = todo.pop()
        if route in found:
            continue
        found.add(route)
        parent = parents.get(route)
        if parent is not None:
            todo.append(parent)
    return found


def _keys(blobs: Mapping[str, Entry], prefixes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Keys by content id, of the blobs below `prefixes`; what is no blob by its name is left alone."""
    found: dict[str, tuple[str, ...]] = {}
    for key in blobs:
        blob = names.blob_id(key) if key.startswith(prefixes) else None
        if blob is not None:
            found[blob] = (*found.get(blob, ()), key)
    return found


def _youngest(facts: Facts, keys: Iterable[str]) -> float:
    return min(_age(facts, facts.blobs[key].modified) for key in keys)


def _age(facts: Facts, at: float) -> float:
    """Seconds since `at` by the store's clock; a store that does not say when gets no age, so nothing happens."""
    return facts.now - at if at > 0 else -1.0


def _is_over(facts: Facts, folder: SearchFolder, grace_s: float) -> bool:
    """Closed at HEAD, or the rest of a folder whose deletion was cut off; and no worker wrote there of late."""
    rest = folder.task is None and names.search_key(folder.search, "search.json") not in folder.keys
    return (folder.closed or rest) and _age(facts, folder.newest) >= grace_s


def _name(folder: SearchFolder) -> str:
    return f"{folder.search} ({folder.task or 'unknown task'})"
