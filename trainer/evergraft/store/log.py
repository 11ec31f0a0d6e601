"""The commit log's write path: check against HEAD, create the next entry, and if another was first, again.

A commit either stands under exactly one version or nowhere: an answer that got lost is settled by reading that name
back before any other is tried. What history, info and init offer is named here too, so that callers need one
import.
"""

from __future__ import annotations

import datetime
import logging
import time as clock
import uuid
from collections.abc import Callable

from evergraft import canonical, names
from evergraft.errors import EvergraftError, StoreConflictError, StoreUnavailableError
from evergraft.graph.commit import Action, Commit
from evergraft.graph.state import Graph, apply, check, check_shared
from evergraft.store import checkpoints, hint
from evergraft.store.history import encode_commit, fold, read_commits, read_graph, read_task, refresh
from evergraft.store.info import GraphInfo, read_info
from evergraft.store.init import TIME_FORMAT, init_graph
from evergraft.store.retry import COUNTERS, Retry
from evergraft.store.seam import Created, Landed, Lost, Store, Unknown
from evergraft.store.turns import turns_at

__all__ = [
    "GraphInfo",
    "commit",
    "init_graph",
    "read_commits",
    "read_graph",
    "read_info",
    "read_task",
    "refresh",
]

RACES = Retry(attempts=200, cap_s=1.0)
"""Patience with other committers: how often to try, and the longest wait for a turn. Each lost race means that someone
else got on."""

_UNKNOWN = Retry(attempts=4, first_s=0.5, cap_s=1.0)

_log = logging.getLogger(__name__)


def commit(
    store: Store,
    graph: Graph,
    *,
    actions: tuple[Action, ...],
    base: int,
    author: str,
    search: str | None,
    uploaded: int | None = None,
    guard: Callable[[Graph], None] | None = None,
    now: datetime.datetime | None = None,
    races: Retry = RACES,
    unknown: Retry = _UNKNOWN,
) -> tuple[Graph, Commit]:
    """Land `actions` as the next version; the graph with them, and the commit.

    `graph` is any version that the caller has read, best the one it decided on: the parents of its routes are looked up
    there, and the actions are checked against HEAD each time. Blobs that they
    name must be in the store. `base` is the version that the author's decision rests on, `uploaded` one that was read
    before the commit's own blobs were put (`base` if not given). `guard` may refuse HEAD too, by raising.

    Raises:
        ConflictError: HEAD forbids it (AlreadyCommittedError, RouteRemovedError, a condemned module, …).
        DataError: more actions than one commit can hold; nothing is written.
        IntegrityError: the log is damaged, or does not hold `graph` any more.
        StoreUnavailableError: no answer, or no end of lost races; the commit may have landed, running again is safe.
    """
    mark = uuid.uuid4().hex
    time = (now or datetime.datetime.now(datetime.UTC)).strftime(TIME_FORMAT)
    turns = turns_at(store.url)
    check_shared(graph, actions)
    for attempt in range(races.attempts):
        turns.wait(attempt, patience=races)
        known = graph.version
        graph = refresh(store, graph, confirm=attempt == 0, expected=turns.expected())
        turns.saw(graph.version - known)
        check(graph, actions, base=base, uploaded=uploaded)
        if guard is not None:
            guard(graph)
        entry = Commit(
            version=graph.version + 1,
            id=mark,
            previous=graph.head,
            time=time,
            author=author,
            base=base,
            search=search,
            actions=actions,
        )
        data = encode_commit(entry)
        started = clock.monotonic()
        outcome = _create(store, names.log_key(entry.version), data, patience=unknown)
        turns.note(landed=isinstance(outcome, Landed), seconds=clock.monotonic() - started)
        if isinstance(outcome, Landed):
            return _landed(store, apply(graph, entry, digest=canonical.sha256(data))), entry
        if isinstance(outcome, Unknown):
            raise StoreUnavailableError(
                f"{store.url}: no answer to the commit of version {entry.version} ({outcome.reason}); "
                "it may have landed, and running again is safe: it lands once or not at all"
            )
        COUNTERS.add("lost race")
        graph = fold(graph, outcome.data)
    raise StoreConflictError(f"{store.url}: {races.attempts} commits in a row were overtaken; run again")


def _create(store: Store, key: str, data: bytes, *, patience: Retry) -> Created:
    """Create one name with one content; as long as the outcome is unknown, the same again."""
    outcome: Created = Unknown("not tried")
    for attempt in range(patience.attempts):
        outcome = store.put_if_absent(key, data)
        if isinstance(outcome, Landed | Lost):
            return outcome
        COUNTERS.add("unknown answer")
        if attempt + 1 < patience.attempts:
            patience.wait(attempt)
    return outcome


def _landed(store: Store, graph: Graph) -> Graph:
    """What is worth doing after a commit, none of which can undo it: a checkpoint when due, the hint."""
    try:
        graph = checkpoints.write_if_due(store, graph)
    except EvergraftError as error:
        _log.warning("%s: no checkpoint at version %d: %s", store.url, graph.version, error)
    hint.write_hint(store, graph)
    return graph
