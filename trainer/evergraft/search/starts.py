"""Where a candidate may start, and how this task stands: its own route and the kept candidates, best first.

A candidate is kept if it is usable and not below the score of its same-task parent. The own route's score is a bar only
while it was measured on what this search measures on: a score from before a class was added says nothing of it. Pure.
Called by every strategy, by the closing and by ``plan``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.graph.route import Layer, RouteSummary
from evergraft.search.score import result_score, route_score
from evergraft.search.values import CandidatePlan, Finish, RouteView, SlotRef, SlotResult, View

OUTDATED = "the earlier score counts no longer, since data, labels, metric or image size changed"


@dataclass(frozen=True)
class Start:
    """A committed route or an earlier candidate, seen as a parent.

    `score` is None for another task's route and for roots: what they score says nothing about this task; and for the
    own route where it was measured on something else. `same_task` says whether it already solves this task.
    """

    ref: str | SlotRef
    title: str
    layers: tuple[Layer, ...]
    hyperparameters: Mapping[str, Any]
    score: float | None
    same_task: bool


def is_outdated(view: View) -> bool:
    """Whether this task's route was measured on something else than this search measures on.

    No where either is unknown, as for routes written before it was kept: their scores count as they always did.
    """
    measured_on = view.own.summary.basis if view.own is not None else None
    return None not in (measured_on, view.basis) and measured_on != view.basis


def remark(view: View) -> str:
    """What every reason of this search adds where the own route's score counts no longer."""
    return f"; {OUTDATED}" if is_outdated(view) else ""


def route_start(view: View, route: RouteSummary) -> Start:
    """A committed route as a start."""
    own = route.task == view.spec.task
    return Start(
        ref=route.id,
        title="this task's route" if own else "the root" if route.is_root else route.task,
        layers=route.layers,
        hyperparameters=route.hyperparameters,
        score=route_score(view, route) if own and not is_outdated(view) else None,
        same_task=own,
    )


def candidates(view: View) -> Iterator[tuple[SlotRef, CandidatePlan, SlotResult]]:
    """Every earlier candidate that has a result, in the order of generation and slot."""
    for generation, record in enumerate(view.history):
        results = {result.slot: result for result in record.results}
        for slot, plan in enumerate(record.plan.candidates):
            if slot in results:
                yield SlotRef(generation=generation, slot=slot), plan, results[slot]


def standing(view: View) -> tuple[Start, ...]:
    """This task's committed route and this search's kept candidates by score, ties to the earlier.

    Without the route where its score counts no longer.
    """
    starts = [route_start(view, view.own.summary)] if view.own and not is_outdated(view) else []
    for ref, plan, result in candidates(view):
        reached = result_score(view, result)
        if plan.kind == "train" and result.usable and (plan.threshold is None or reached >= plan.threshold):
            starts.append(
                Start(
                    ref=ref,
                    title=f"candidate {ref.generation}-{ref.slot}",
                    layers=result.layers,
                    hyperparameters=plan.hyperparameters,
                    score=reached,
                    same_task=True,
                )
            )
    return tuple(sorted(starts, key=lambda start: -(start.score or 0.0)))


def family(view: View) -> tuple[Start, ...]:
    """All of this task that may be a parent: what stands, then its route where that stands no longer."""
    outdated = [route_start(view, view.own.summary)] if view.own and is_outdated(view) else []
    return (*standing(view), *outdated)


def other_routes(view: View) -> tuple[RouteView, ...]:
    """Other tasks' public routes and the roots, ordered by task id. Private ones are left out, whoever let them in."""
    others = (route for route in view.routes if route.summary.task != view.spec.task)
    return tuple(
        sorted(
            (route for route in others if route.summary.visibility == "Public" and route.summary.layers),
            key=lambda route: route.summary.task,
        )
    )


def decide(view: View) -> Finish:
    """The end of a search: the best of what stands, ties to the earlier; `none` if nothing does and nothing serves."""
    stopped = f"; stopped early: {view.stop}" if view.stop else ""
    told = f"{remark(view)}{stopped}"
    ranked = standing(view)
    if not ranked and view.own is not None:
        return Finish(outcome="keep", reason=f"no candidate could be used, so the present route stays{told}")
    if not ranked:
        return Finish(outcome="none", reason=f"no candidate could be used and the task has no route{told}")
    best = ranked[0]
    if isinstance(best.ref, SlotRef):
        return Finish(outcome="commit", winner=best.ref, reason=f"{best.title} scored best ({best.score:.4f}){told}")
    return Finish(outcome="keep", reason=f"no candidate beat the present route ({best.score:.4f}){told}")
