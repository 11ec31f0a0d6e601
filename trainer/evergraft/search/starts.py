"""Where a candidate may start, and how this task stands: its own route and the kept candidates, best first.

A candidate is kept if it is usable and not below the score of its same-task parent. Pure. Called by every strategy
and by the checks of plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.graph.route import Layer, RouteSummary
from evergraft.search.score import result_score, route_score
from evergraft.search.values import CandidatePlan, Finish, RouteView, SlotRef, SlotResult, View


@dataclass(frozen=True)
class Start:
    """A committed route or an earlier candidate, seen as a parent.

    `score` is None for another task's route and for roots: what they score says nothing about this task.
    """

    ref: str | SlotRef
    title: str
    layers: tuple[Layer, ...]
    hyperparameters: Mapping[str, Any]
    score: float | None

    @property
    def same_task(self) -> bool:
        """Whether it already solves this task."""
        return self.score is not None


def route_start(view: View, route: RouteSummary) -> Start:
    """A committed route as a start."""
    own = route.task == view.spec.task
    return Start(
        ref=route.id,
        title="this task's route" if own else "the root" if route.is_root else route.task,
        layers=route.layers,
        hyperparameters=route.hyperparameters,
        score=route_score(view, route) if own else None,
    )


def candidates(view: View) -> Iterator[tuple[SlotRef, CandidatePlan, SlotResult]]:
    """Every earlier candidate that has a result, in the order of generation and slot."""
    for generation, record in enumerate(view.history):
        results = {result.slot: result for result in record.results}
        for slot, plan in enumerate(record.plan.candidates):
            if slot in results:
                yield SlotRef(generation=generation, slot=slot), plan, results[slot]


def standing(view: View) -> tuple[Start, ...]:
    """This task's committed route and this search's kept candidates by score, ties to the earlier."""
    starts = [route_start(view, view.own.summary)] if view.own else []
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
                )
            )
    return tuple(sorted(starts, key=lambda start: -(start.score or 0.0)))


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
    """The end of a search: the best of what stands, ties to the earlier; `none` if nothing does."""
    stopped = f"; stopped early: {view.stop}" if view.stop else ""
    ranked = standing(view)
    if not ranked:
        return Finish(outcome="none", reason=f"no candidate could be used and the task has no route{stopped}")
    best = ranked[0]
    if isinstance(best.ref, SlotRef):
        return Finish(outcome="commit", winner=best.ref, reason=f"{best.title} scored best ({best.score:.4f}){stopped}")
    return Finish(outcome="keep", reason=f"no candidate beat the present route ({best.score:.4f}){stopped}")
