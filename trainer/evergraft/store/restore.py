"""Put back routes of an earlier version, by a new commit: history is never rewritten, run keys are never lowered.

What gc has condemned or deleted cannot come back; it is named before anything is written. Called by
`graph restore` and by maintenance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.errors import ConflictError, UserError
from evergraft.graph.commit import Restore
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.names import ROOT_TASK
from evergraft.store import log
from evergraft.store.seam import Store


@dataclass(frozen=True)
class Restored:
    """What was put back: task to the route's id, None where the task had none. `version` is the graph's after it."""

    version: int
    restored: int
    routes: Mapping[str, str | None]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"version": self.version, "restored": self.restored, "routes": dict(self.routes)}


def restore(store: Store, version: int, *, task: str | None = None, author: str = "evergraft restore") -> Restored:
    """Give every task, or `task` alone, the route it had at `version`; no commit if they have it already.

    Raises:
        UserError: no such version, or `task` had no route there.
        ConflictError: a blob that an earlier route needs is condemned or deleted.
        StoreUnavailableError: not known whether it landed; running again is safe.
    """
    graph = log.read_graph(store)
    earlier = log.read_graph(store, version=version)
    if task is not None:
        _check_task(graph, earlier, task)
    routes = {name: route for name, route in _changes(graph, earlier) if task in (None, name)}
    _check_blobs(graph, routes, version=version)
    if routes:
        action = Restore(version=version, routes=routes)
        graph, _ = log.commit(store, graph, actions=(action,), base=graph.version, author=author, search=None)
    return Restored(
        version=graph.version,
        restored=version,
        routes={name: route.id if route else None for name, route in routes.items()},
    )


def _check_task(graph: Graph, earlier: Graph, task: str) -> None:
    state = earlier.task(task)
    if state is not None and state.route is not None:
        return
    known = graph.task(task)
    if known is None:
        raise UserError(f"{task}: the graph never heard of this task")
    raise UserError(
        f"{task}: it had no route at version {earlier.version}; to take its present route away use: graph remove"
    )


def _changes(graph: Graph, earlier: Graph) -> Iterator[tuple[str, RouteSummary | None]]:
    """(task, its route then) of every task whose route is another now. Nothing is put back that was not there."""
    for name, state in graph.tasks():
        before = earlier.task(name)
        route = before.route if before else None
        now = state.route.id if state.route else None
        if name != ROOT_TASK and now != (route.id if route else None):
            yield name, route


def _check_blobs(graph: Graph, routes: Mapping[str, RouteSummary | None], *, version: int) -> None:
    lost = {name: blobs for name, route in routes.items() if route and (blobs := _lost(graph, route, version))}
    if lost:
        what = "; ".join(f"{name} needs {', '.join(blob[:12] + '…' for blob in lost[name])}" for name in sorted(lost))
        others = sorted(routes.keys() - lost.keys())
        rest = f"; these can be put back one by one with --task: {', '.join(others)}" if others else ""
        raise ConflictError(
            f"restore: gc has condemned or deleted blobs that version {version} needs: {what}; "
            f"train those tasks again by raising their iteration{rest}"
        )


def _lost(graph: Graph, route: RouteSummary, version: int) -> list[str]:
    """Blobs of the route that are condemned, or were deleted after `version`."""
    wanted = dict.fromkeys((route.id, *route.module_ids(), *([route.parent] if route.parent else [])))
    return [blob for blob in wanted if blob in graph.condemned or graph.swept.get(blob, -1) > version]
