"""Build what a strategy may see from the graph at the base version. Pure; called by the engine and by ``plan``.

This is where privacy is enforced for planning: another task's private route never enters a view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from evergraft.api.resolved import ResolvedTask
from evergraft.graph.state import Graph, TaskState
from evergraft.search import ledger
from evergraft.search.values import GenerationRecord, Reference, RouteView, TaskFacts, View


def build_view(
    graph: Graph,
    *,
    spec: ResolvedTask,
    facts: TaskFacts,
    reference: Reference,
    manifest: Mapping[str, Any] | None = None,
    history: Iterable[GenerationRecord] = (),
    stop: str | None = None,
) -> View:
    """The view of `spec`'s search at `graph`: public routes and its own, users of modules by other tasks.

    `manifest` is ``data.json``; without it nobody can tell whether earlier scores are of the same data.
    """
    own = graph.task(spec.task) or TaskState()
    routes: list[RouteView] = []
    users: Counter[str] = Counter()
    for task, state in graph.tasks():
        if state.route is None:
            continue
        if task != spec.task:
            users.update(set(state.route.module_ids()))
        if task == spec.task or state.visibility == "Public":
            drawn = own.sampled.get(state.route.id, 0)
            routes.append(RouteView(summary=state.route, sampled=drawn, version=state.version))
    view = View(
        spec=spec,
        facts=facts,
        base=graph.version,
        reference=reference,
        routes=tuple(routes),
        users=users,
        history=tuple(history),
        stop=stop,
    )
    return view if manifest is None else replace(view, basis=ledger.basis_of(view, ledger.without_versions(manifest)))


def crash(view: View) -> str | None:
    """Why the newest generation ends the search as failed; None if it does not."""
    failed = next((result.failed for result in view.history[-1].results if result.failed), None)
    return f"CandidateCrashes: {failed}" if failed and view.spec.search.failed_candidates == "Fail" else None
