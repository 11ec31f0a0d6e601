"""The route that serves a task, for commands that are about one task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergraft.errors import UserError

if TYPE_CHECKING:
    from evergraft.graph.route import RouteSummary
    from evergraft.store.seam import Store


def serving_route(store: Store, task: str, *, version: int | None) -> tuple[RouteSummary, int]:
    """The summary of a task's serving route, and the version read.

    Raises:
        UserError: the graph has no route of this task.
    """
    from evergraft.store import log

    state, at = log.read_task(store, task, version=version)
    if state is None or state.route is None:
        known = ", ".join(name for name, other in log.read_graph(store, version=version).tasks() if other.route)
        raise UserError(f"{task}: no route at version {at} of {store.url}; it has {known}")
    return state.route, at
