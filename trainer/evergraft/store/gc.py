"""Collect what nobody needs: condemn, delete, and say so in the log; delete the folders of closed searches.

Safe beside writers, beside other collections, and cut off anywhere. The log decides: a commit that names a condemned
id is refused, and so is condemning what a route came to use meanwhile. A delete is sent only within half a grace
period of a commit that announces it, and its id is free again only a whole one after the last announcement: a
collection would have to sleep through that between two instructions to delete what was put again. Called by
`graph gc` and by maintenance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from evergraft.errors import ConflictError
from evergraft.graph.commit import Action, Condemn, Swept
from evergraft.graph.state import Graph
from evergraft.names import search_key
from evergraft.store import log, parallel
from evergraft.store.gcfacts import read_facts
from evergraft.store.gcplan import Plan, plan
from evergraft.store.seam import Store

GRACE_S = 24 * 3600.0
ROUNDS = 5
"""So often a collection begins anew because HEAD came to use what it wanted to condemn."""

LEAST_DEADLINE_S = 60.0
"""Deletes may be sent for so long after their announcement even if half the grace period is shorter."""

CHUNK = 256
"""Deletes between two looks at the clock."""


@dataclass(frozen=True)
class Collected:
    """What was done, or with a dry run what would be: the plan, ids deleted, and the version after it."""

    plan: Plan
    deleted: int
    version: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "version": self.version,
            "dryRun": self.dry_run,
            "kept": self.plan.kept,
            "condemned": len(self.plan.condemn),
            "deleted": self.deleted,
            "swept": len(self.plan.swept),
            "waiting": self.plan.waiting,
            "bytesFreed": self.plan.freed,
            "optimizerStates": len(self.plan.expired),
            "searchFolders": len(self.plan.folders),
            "openSearches": list(self.plan.open_searches),
        }


def gc(
    store: Store,
    *,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    author: str = "evergraft gc",
    clock: Callable[[], float] = time.monotonic,
) -> Collected:
    """Carry each unused blob one step further: condemn it, delete it, or free its name; delete what is over.

    A dry run writes nothing, and so goes by this machine's clock instead of the store's.

    Raises:
        NotAGraphError: there is no graph here.
        IntegrityError: the log or a result of an open search cannot be read; nothing was deleted.
        ConflictError: writers were faster in every round; run again.
        StoreError, PermissionDeniedError: from the store; run again, it goes on where it was.
    """
    for attempt in range(ROUNDS):
        facts = read_facts(store, now=time.time() if dry_run else None)
        todo = plan(facts, grace_s=grace_s)
        if dry_run:
            return Collected(todo, deleted=len(todo.delete or {}), version=facts.graph.version, dry_run=True)
        try:
            return _carry_out(store, facts.graph, todo, grace_s=grace_s, author=author, clock=clock)
        except ConflictError:
            if attempt + 1 == ROUNDS:
                raise
    raise AssertionError("the last round returns or raises")


def _carry_out(
    store: Store, graph: Graph, todo: Plan, *, grace_s: float, author: str, clock: Callable[[], float]
) -> Collected:
    """Free names first, since that asks most of HEAD; then announce and delete; then condemn."""
    base = graph.version
    if todo.swept:
        graph = _commit(store, graph, Swept(todo.swept), base=base, author=author, guard=_not_announced(store, todo))
    deleted = 0
    if todo.delete:
        deadline = clock() + max(grace_s / 2, LEAST_DEADLINE_S)
        announced = Condemn(tuple(todo.delete))
        graph = _commit(store, graph, announced, base=base, author=author, guard=_still_condemned(todo))
        deleted = _delete(store, todo, late=lambda: clock() > deadline)
    if todo.condemn:
        condemn = Condemn(todo.condemn)
        graph = _commit(store, graph, condemn, base=base, author=author, guard=_no_parents(todo))
    _clear(store, todo)
    return Collected(todo, deleted=deleted, version=graph.version, dry_run=False)


def _commit(
    store: Store, graph: Graph, action: Action, *, base: int, author: str, guard: Callable[[Graph], None]
) -> Graph:
    after, _ = log.commit(store, graph, actions=(action,), base=base, author=author, search=None, guard=guard)
    return after


def _not_announced(store: Store, todo: Plan) -> Callable[[Graph], None]:
    """A name must not become free while another collection is about to delete it."""

    def guard(head: Graph) -> None:
        for commit, _ in log.read_commits(store, todo.version + 1, head.version):
            for action in commit.actions:
                if isinstance(action, Condemn) and not set(todo.swept).isdisjoint(action.ids):
                    raise ConflictError(f"swept: version {commit.version} condemned a blob again; collect again")

    return guard


def _still_condemned(todo: Plan) -> Callable[[Graph], None]:
    """What another collection freed meanwhile may be in use, or about to be; it is not ours to delete."""

    def guard(head: Graph) -> None:
        for blob in set(todo.delete or ()) - head.condemned:
            raise ConflictError(f"gc: blob {blob[:12]}… is no longer condemned; collect again")

    return guard


def _no_parents(todo: Plan) -> Callable[[Graph], None]:
    """A route that landed meanwhile may have a parent whose document was unused when we looked."""

    def guard(head: Graph) -> None:
        for parent in {route.parent for route in head.routes()}.intersection(todo.condemn):
            raise ConflictError(
                f"condemn: route {str(parent)[:12]}… is a parent at version {head.version}; collect again"
            )

    return guard


def _delete(store: Store, todo: Plan, *, late: Callable[[], bool]) -> int:
    """Delete until it is `late`; the number of ids of which nothing is left."""
    ids = list((todo.delete or {}).items())
    done = 0
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        done += sum(parallel.each(lambda item: _delete_id(store, item[1], late=late), chunk))
        if late():
            break
    return done


def _delete_id(store: Store, keys: Iterable[str], *, late: Callable[[], bool]) -> bool:
    for key in keys:
        if late():
            return False
        store.delete(key)
    return True


def _clear(store: Store, todo: Plan) -> None:
    """Delete what needs no word in the log: nobody can come to need it again, or can do without.

    A folder loses ``search.json`` last, so that one cut off half way is still known to be closed.
    """
    parallel.each(store.delete, (*todo.expired, *todo.probes))
    for folder in todo.folders:
        header = search_key(folder.search, "search.json")
        parallel.each(store.delete, [key for key in folder.keys if key != header])
        store.delete(header)
