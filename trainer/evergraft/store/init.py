"""Start a graph: graph.json, then the first commit with the root. Safe to repeat, and to race.

A process that dies between the two leaves a graph without a log; the next init with the same root finishes it.
Called by `graph init` and by `run` on an empty URL, after they have put the root's blobs.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping

from evergraft import names
from evergraft.errors import ConflictError, NotAGraphError, StoreUnavailableError
from evergraft.graph.commit import AddModules, Commit, PutRoute
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph, check
from evergraft.store import documents
from evergraft.store.history import encode_commit, read_graph
from evergraft.store.info import MAX_BYTES, GraphInfo, decode_info, read_info
from evergraft.store.seam import Landed, Lost, Store

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def init_graph(
    store: Store,
    *,
    root: RouteSummary,
    modules: Mapping[str, int],
    reference: tuple[int, int],
    author: str,
    now: datetime.datetime | None = None,
) -> Graph:
    """Start the graph from `root`, or adopt the one that stands if it starts from the same root.

    The root's blobs must be in the store already; `modules` maps their ids to bytes, as `put_modules` returns them.
    `reference` is (parameters, FLOPs of one image forward).

    Raises:
        ConflictError: a graph with another root is here.
        StoreUnavailableError: not known whether it landed; running again is safe.
    """
    time = (now or datetime.datetime.now(datetime.UTC)).strftime(TIME_FORMAT)
    parameters, flops = reference
    ours = GraphInfo(
        graph=uuid.uuid4().hex,
        root=root.id,
        reference_parameters=parameters,
        reference_flops=flops,
        author=author,
        time=time,
    )
    standing = _standing(store) or _create_info(store, ours)
    if standing.root != root.id:
        raise ConflictError(
            f"{store.url}: a graph is here already, and it starts from another root ({standing.root[:12]}…, "
            f"not {root.id[:12]}…); use another URL, or the root it was made with"
        )
    _create_first_commit(store, root=root, modules=modules, author=author, time=time)
    return read_graph(store)


def _standing(store: Store) -> GraphInfo | None:
    try:
        return read_info(store)
    except NotAGraphError:
        return None


def _create_info(store: Store, ours: GraphInfo) -> GraphInfo:
    data = documents.encode(ours.to_json(), what=names.GRAPH, max_bytes=MAX_BYTES)
    outcome = store.put_if_absent(names.GRAPH, data)
    if isinstance(outcome, Landed):
        return ours
    if isinstance(outcome, Lost):
        return decode_info(outcome.data, url=store.url)
    raise StoreUnavailableError(f"{store.url}: the graph may or may not be begun ({outcome.reason}); run again")


def _create_first_commit(
    store: Store, *, root: RouteSummary, modules: Mapping[str, int], author: str, time: str
) -> None:
    """log/0, unless one stands: then it holds this root, since graph.json names it."""
    actions = (AddModules(modules), PutRoute(root))
    check(Graph(), actions, base=-1)
    commit = Commit(
        version=0, id=uuid.uuid4().hex, previous=None, time=time, author=author, base=-1, search=None, actions=actions
    )
    outcome = store.put_if_absent(names.log_key(0), encode_commit(commit))
    if not isinstance(outcome, Landed | Lost):
        raise StoreUnavailableError(f"{store.url}: the root may or may not be committed ({outcome.reason}); run again")
