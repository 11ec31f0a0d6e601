"""One long child with the whole budget: what the baselines `finetune`, `lora` and `linear` share.

They differ only in what becomes of the parent's layers. The parent is this task's own route, else the public route
with the most training behind its lineage, ties to the newest, else the root: an unbroken chain of tasks is what pays.
``parameters.parent`` overrides it: `root`, or the id of a task, is meant literally, also where the task has a route.
Nothing is inherited but weights: every hyperparameter is the strategy's default or the spec's start. The optimiser
starts fresh, and images are not augmented unless the spec says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evergraft.errors import ConflictError, SpecError
from evergraft.search.budget import samples_each
from evergraft.search.ladders import starts_of
from evergraft.search.layers import with_head
from evergraft.search.starts import Start, decide, other_routes, route_start
from evergraft.search.values import (
    CandidatePlan,
    Finish,
    Generation,
    LayerPlan,
    RouteView,
    Schedule,
    View,
)

NEWEST = "newest"
ROOT = "root"

PlanBody = Callable[[View, Start], tuple[LayerPlan, ...]]
"""What becomes of each layer of the start but the head."""

NO_AUGMENTATION: Mapping[str, Any] = {
    "crop": False,
    "flip": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
}


@dataclass(frozen=True)
class SingleChild:
    """A strategy of one child; `learning_rate` is the default peak for AdamW."""

    name: str
    version: int
    learning_rate: float
    plan_body: PlanBody

    def next(self, view: View) -> Generation | Finish:
        """Plan the child, then commit it unless this task's present route has a score that counts, and a better one.

        Raises:
            SpecError: too few samples, or a parent that is no public route.
        """
        if view.history or view.stop:
            return decide(view)
        route, reason = choose_parent(view)
        start = route_start(view, route.summary)
        samples = samples_each(view.spec.search, candidates=1)
        values = hyperparameters(view, learning_rate=self.learning_rate)
        plan = CandidatePlan(
            kind="train",
            start=start.ref,
            layers=with_head(view, start, self.plan_body(view, start)),
            hyperparameters=values,
            samples=samples,
            validations=view.spec.search.validations,
            schedule=Schedule(span=samples, kind=str(values["schedule"])),
            threshold=start.score,
            reason=reason,
        )
        return Generation(candidates=(plan,), sampled={route.summary.id: 1})


def hyperparameters(view: View, *, learning_rate: float) -> dict[str, Any]:
    """The defaults of one long child, with `learning_rate` as peak, under what the spec starts from."""
    search = view.spec.search
    defaults: dict[str, Any] = {
        "optimizer": search.optimizer or "AdamW",
        "learningRate": learning_rate,
        "weightDecay": 0.05,
        "warmupRatio": 0.05,
        "schedule": "cosine",
        **NO_AUGMENTATION,
    }
    if search.image_size is not None:
        defaults["imageSize"] = search.image_size
    return {**defaults, **starts_of(search.hyperparameters)}


def choose_parent(view: View) -> tuple[RouteView, str]:
    """The route to start from, and why.

    Raises:
        SpecError: ``parameters.parent`` names no public route of this graph.
        ConflictError: the graph has no route at all.
    """
    wanted = str(view.spec.search.parameters.get("parent") or NEWEST)
    if wanted not in (NEWEST, ROOT):
        return _named(view, wanted), f"search.parameters.parent names {wanted}"
    if wanted == NEWEST and view.own is not None:
        return view.own, "this task's own route"
    best = most_trained(view)
    if wanted == NEWEST and best is not None:
        return best, f"most training behind its lineage: {best.summary.lineage_samples} samples"
    if view.root is None:
        raise ConflictError(f"the graph at version {view.base} has no root to start from; restore it")
    why = "search.parameters.parent names the root" if wanted == ROOT else "no other task has a public route yet"
    return view.root, why


def most_trained(view: View) -> RouteView | None:
    """The other task's public route with the most training behind its lineage, ties to the newest; not the root."""
    others = [route for route in other_routes(view) if not route.summary.is_root]
    return max(others, key=lambda route: (route.summary.lineage_samples, route.version), default=None)


def _named(view: View, task: str) -> RouteView:
    known = [route for route in (view.own, *other_routes(view)) if route is not None]
    found = next((route for route in known if route.summary.task == task), None)
    if found is None:
        raise SpecError(
            f"search.parameters.parent: no public route of task {task!r} at version {view.base}; "
            f"use newest, root or the id of a task that is committed and public"
        )
    return found
