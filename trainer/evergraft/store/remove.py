"""Take a task's route away. Its modules stay as long as others use them; its run key stays for ever.

Refused while other tasks build on it, checked against HEAD in the very commit, unless forced. Called by
`graph remove` and, for a deleted Task, by maintenance.
"""

from __future__ import annotations

from evergraft.errors import ConflictError
from evergraft.graph.commit import RemoveRoute
from evergraft.graph.state import Graph
from evergraft.store import log
from evergraft.store.seam import Store


def remove_route(
    store: Store,
    task: str,
    *,
    force: bool = False,
    iteration: int | None = None,
    author: str = "evergraft remove",
) -> Graph:
    """Remove the route of `task`; the graph after it. A later run at its run key stops with RouteRemoved.

    With `force` also while others build on it: their answers stay what they are, since they keep what they share.
    With `iteration` only if no later one is closed: who comes late takes no route that was trained anew.

    Raises:
        ConflictError: it has no route, it is the root, it is of a later iteration, or others build on it and it is not
            forced.
        StoreUnavailableError: not known whether it landed; running again is safe.
    """
    graph = log.read_graph(store)

    def guard(head: Graph) -> None:
        state = head.task(task)
        if iteration is not None and state is not None and state.run is not None and state.run.iteration > iteration:
            raise ConflictError(f"{task}: run {state.run} is closed, later than iteration {iteration}; its route stays")
        others = builders(head, task)
        if others and not force:
            raise ConflictError(
                f"{task}: {', '.join(others)} build on its route; remove them first, or use --force, which leaves "
                "their answers as they are"
            )

    actions = (RemoveRoute(task),)
    after, _ = log.commit(store, graph, actions=actions, base=graph.version, author=author, search=None, guard=guard)
    return after


def builders(graph: Graph, task: str) -> list[str]:
    """The other tasks whose lineage leads through `task`, children first, as far as tasks in between still serve."""
    children: dict[str, list[str]] = {}
    for route in graph.routes():
        if route.parent_task is not None and route.parent_task != route.task:
            children.setdefault(route.parent_task, []).append(route.task)
    found: dict[str, None] = {}
    todo = [task]
    while todo:
        fresh = [child for child in children.get(todo.pop(0), ()) if child not in found and child != task]
        found.update(dict.fromkeys(fresh))
        todo += fresh
    return list(found)
