"""HEAD in few words: one task with its route, and the graph in figures, as final reports and stewards tell them.

Reads a task's route document for what its summary leaves out; where that cannot be read, the rest is still told.
Called by the worker's report and by stewards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evergraft import names
from evergraft.errors import FormatError, IntegrityError, NotFoundError
from evergraft.graph.route import Route, RouteSummary
from evergraft.graph.state import Graph, TaskState
from evergraft.names import RunKey
from evergraft.store import blobs
from evergraft.store.seam import Store

MAX_RUNS = 10_000
"""So many earlier runs of a task are tried to find the one that a route came from."""

MAX_LISTED = 10_000
"""Modules up to which a worker lists their sizes: ten requests to an object store."""


def head_facts(store: Store, task: str, state: TaskState | None) -> dict[str, Any]:
    """``{run, outcome, taskHash, route}`` of one task; all None if the graph never heard of it."""
    if state is None or state.run is None:
        return {"run": None, "outcome": None, "taskHash": None, "route": None}
    return {
        "run": str(state.run),
        "outcome": state.outcome,
        "taskHash": state.task_hash,
        "route": route_facts(store, task, state),
    }


def route_facts(store: Store, task: str, state: TaskState) -> dict[str, Any] | None:
    """The route that serves a task, None if none does. What is not known is None.

    `version` is that of the commit which brought it, known as long as the task has not changed since.
    """
    summary = state.route
    if summary is None:
        return None
    document = _document(store, summary)
    run = None if document is None else run_of(task, document.search, newest=state.run)
    newest = run is not None and run == state.run and state.outcome == "committed"
    return {
        "id": summary.id,
        "version": state.version if newest else None,
        "run": None if run is None else str(run),
        "quality": summary.quality,
        "score": summary.score,
        "testQuality": document.metrics.get("testQuality") if document else None,
        "parentTask": summary.parent_task,
        "parametersAdded": summary.added,
        "stoppedEarly": document is not None and document.transfer.get("stoppedEarly") is True,
    }


def _document(store: Store, summary: RouteSummary) -> Route | None:
    try:
        return blobs.get_route(store, summary.id)
    except (IntegrityError, FormatError, NotFoundError):
        return None  # verify tells of it; here the summary has to do


def run_of(task: str, search: str, *, newest: RunKey | None) -> RunKey | None:
    """The run whose search has this id, tried from the task's newest run backwards; None if none is found."""
    return next((run for run in _runs(newest) if names.search_id(task, run) == search), None)


def _runs(newest: RunKey | None) -> Iterator[RunKey]:
    """Run keys that a task may have had, the likeliest first."""
    if newest is None:
        return
    left = MAX_RUNS
    for iteration in range(newest.iteration, 0, -1):
        for cycle in range(newest.cycle if iteration == newest.iteration else max(newest.cycle, 64), 0, -1):
            yield RunKey(iteration=iteration, cycle=cycle)
            left -= 1
            if left == 0:
                return


def graph_totals(graph: Graph) -> dict[str, int]:
    """Version, tasks with a route (the root not counted), modules in use and their parameters."""
    routes = list(graph.routes())
    sizes = {module: size for route in routes for layer in route.layers for module, size in layer.modules()}
    tasks = sum(not route.is_root for route in routes)
    return {"version": graph.version, "tasks": tasks, "modules": len(sizes), "parameters": sum(sizes.values())}


def all_totals(store: Store, graph: Graph, *, at_most: int | None = None) -> dict[str, int]:
    """Those figures and `bytes`, the size of the files of the modules in use.

    That takes a listing of all modules, so it is left out where more than `at_most` are in use.
    """
    totals = graph_totals(graph)
    if at_most is not None and totals["modules"] > at_most:
        return totals
    used = {names.module_key(module) for route in graph.routes() for module in route.module_ids()}
    return {**totals, "bytes": sum(entry.size for entry in store.list(names.MODULES) if entry.key in used)}
