"""What a collection must know before it decides: the log, what lies in the store and since when, the searches.

Read in an order that errs on the side of keeping: the clock first, so that ages come out too small rather than too
large; the searches last, so that a result written meanwhile is seen. Called by gc; writes one tiny object, to learn
the store's own time.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evergraft import names
from evergraft.errors import EvergraftError, FormatError, IntegrityError, NotFoundError, StoreUnavailableError
from evergraft.graph.commit import AddModules, CloseSearch, Commit, Condemn, PutRoute, RemoveRoute, Restore, Swept
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import RunKey
from evergraft.store import documents, parallel
from evergraft.store.history import read_commits, read_graph
from evergraft.store.keys import is_key
from evergraft.store.probe import PREFIX as PROBES
from evergraft.store.seam import Entry, Store, Unknown
from evergraft.store.searches import MAX_BYTES, get_json

CLOCK_TRIES = 3
BLOBS = (names.MODULES, names.ROUTES, names.OPTIMIZER)


@dataclass(frozen=True)
class Span:
    """A route as it served its task: from version `first` up to, not including, version `end` (None: it still does)."""

    route: RouteSummary
    first: int
    end: int | None


@dataclass
class History:
    """What the whole log says. `spans` are all routes that ever served, `condemned` maps ids to (first, last) version.

    `version` is the newest commit taken in.
    """

    version: int = -1
    spans: list[Span] = field(default_factory=list)
    condemned: dict[str, tuple[int, int]] = field(default_factory=dict)
    _serving: dict[str, tuple[RouteSummary, int]] = field(default_factory=dict)

    def take(self, commit: Commit) -> None:
        """Take in the next commit."""
        self.version = commit.version
        for action in commit.actions:
            match action:
                case PutRoute(route):
                    self._serve(route.task, route)
                case RemoveRoute(task):
                    self._serve(task, None)
                case Restore():
                    for task, earlier in action.routes.items():
                        self._serve(task, earlier)
                case Condemn(ids):
                    for blob in ids:
                        first, _ = self.condemned.get(blob, (commit.version, 0))
                        self.condemned[blob] = (first, commit.version)
                case Swept(ids):
                    for blob in ids:
                        self.condemned.pop(blob, None)
                case AddModules() | CloseSearch():
                    pass

    def all_spans(self) -> Iterator[Span]:
        """Every span, those that still last included."""
        yield from self.spans
        yield from (Span(route, first, None) for route, first in self._serving.values())

    def _serve(self, task: str, route: RouteSummary | None) -> None:
        before = self._serving.pop(task, None)
        if before is not None:
            self.spans.append(Span(before[0], before[1], self.version))
        if route is not None:
            self._serving[task] = (route, self.version)


@dataclass(frozen=True)
class SearchFolder:
    """One folder below ``searches/``. `base` is None where ``search.json`` is absent or cannot be read.

    `named` are the content ids that its results name; only open searches are asked for them. `newest` is the
    store's time of its last write.
    """

    search: str
    task: str | None
    base: int | None
    closed: bool
    named: frozenset[str]
    keys: tuple[str, ...]
    newest: float


@dataclass(frozen=True)
class Facts:
    """All that a plan rests on. `now` and the times of entries are the store's own, in seconds since the epoch."""

    graph: Graph
    history: History
    committed: Mapping[int, float]
    blobs: Mapping[str, Entry]
    searches: tuple[SearchFolder, ...]
    probes: tuple[Entry, ...]
    now: float


def read_facts(store: Store, *, now: float | None = None) -> Facts:
    """Everything that `gcplan.plan` wants to know. With `now` given the store is not asked for its time.

    Raises:
        NotAGraphError: there is no graph here.
        IntegrityError: the log or a result of an open search cannot be read, so that nothing is known to be unused.
        FormatError: written by a newer format.
        StoreError: the store did not answer.
    """
    now = store_time(store) if now is None else now
    graph = read_graph(store)
    history = History()
    for commit, _ in read_commits(store, 0, graph.version):
        history.take(commit)
    if history.version != graph.version:
        raise IntegrityError(f"{store.url}: the log has no commit {history.version + 1}; run evergraft graph verify")
    committed = {
        version: entry.modified
        for entry in store.list(names.LOG)
        if (version := names.log_version(entry.key)) is not None
    }
    blobs = {entry.key: entry for prefix in BLOBS for entry in store.list(prefix)}
    probes = tuple(store.list(PROBES))
    return Facts(
        graph=graph,
        history=history,
        committed=committed,
        blobs=blobs,
        searches=tuple(_searches(store, graph)),
        probes=probes,
        now=now,
    )


def store_time(store: Store) -> float:
    """The store's own clock, read off a tiny object that is written and deleted again.

    Raises:
        StoreUnavailableError: no answer, or the store does not say when objects were written.
    """
    for _ in range(CLOCK_TRIES):
        at = _time_of_writing(store, f"{PROBES}{uuid.uuid4().hex}-clock")
        if at > 0:
            return at
    raise StoreUnavailableError(f"{store.url}: the store does not say when its objects were written")


def _time_of_writing(store: Store, key: str) -> float:
    """When the store says it wrote `key` just now; 0 if it does not say, or another collection took the object."""
    outcome = store.put_if_absent(key, b"what time is it?")
    if isinstance(outcome, Unknown):
        raise StoreUnavailableError(f"{store.url}: {outcome.reason}")
    try:
        return next((entry.modified for entry in store.list(key)), 0.0)
    finally:
        with contextlib.suppress(EvergraftError):  # a later collection deletes what is left under probe/
            store.delete(key)


def _searches(store: Store, graph: Graph) -> Iterator[SearchFolder]:
    folders: dict[str, list[Entry]] = {}
    ours = (entry for entry in store.list(names.SEARCHES) if is_key(entry.key))  # what is foreign is left alone
    for entry in ours:
        folders.setdefault(entry.key.split("/")[1], []).append(entry)
    yield from parallel.each(lambda item: _search(store, graph, *item), folders.items())


def _search(store: Store, graph: Graph, search: str, entries: list[Entry]) -> SearchFolder:
    header = _header(store, search)
    closed = header is not None and _is_closed(graph, header)
    keys = tuple(entry.key for entry in entries)
    return SearchFolder(
        search=search,
        task=str(header["task"]) if header else None,
        base=header["base"] if header else None,
        closed=closed,
        named=frozenset() if closed else _named(store, keys),
        keys=keys,
        newest=max(entry.modified if entry.modified > 0 else float("inf") for entry in entries),
    )


def _header(store: Store, search: str) -> dict[str, Any] | None:
    """``search.json``, None where there is none that says which run it is."""
    try:
        header = get_json(store, names.search_key(search, "search.json"), what="search.json")
    except FormatError:
        raise
    except IntegrityError:
        return None
    fields = header or {}
    known = isinstance(fields.get("task"), str) and type(fields.get("base")) is int
    return header if known and isinstance(fields.get("run"), str) else None


def _is_closed(graph: Graph, header: Mapping[str, Any]) -> bool:
    """Whether HEAD closed this run or a later one; then nothing of it can ever land."""
    state = graph.task(header["task"])
    try:
        run = RunKey.parse(header["run"])
    except ValueError:
        return False
    return state is not None and state.run is not None and run <= state.run


def _named(store: Store, keys: Iterable[str]) -> frozenset[str]:
    """Every content id that the results of a search name: of layers, modules, routes, parents."""
    results = [key for key in keys if key.endswith("/result.json")]
    return frozenset(found for key in results for found in _ids(_result(store, key)))


def _result(store: Store, key: str) -> Any:
    try:
        return documents.decode(store.get(key), what=key, max_bytes=MAX_BYTES)
    except NotFoundError:  # another collection deletes the folder, so its search is closed
        return None


def _ids(value: Any) -> Iterator[str]:
    """Every text in a JSON value that has the form of a content id; that some are none does no harm."""
    if isinstance(value, str):
        if names.is_id(value):
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _ids(key)
            yield from _ids(item)
    elif isinstance(value, list):
        for item in value:
            yield from _ids(item)
