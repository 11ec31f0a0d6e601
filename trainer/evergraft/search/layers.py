"""What every strategy says of a parent's layers: which one is the final norm, and where the head comes from.

Pure. Called by the strategies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evergraft.graph.route import HEAD, Layer, RouteSummary
from evergraft.search.starts import Start
from evergraft.search.values import LayerPlan, View

NORM = "norm"
BLOCK = "encoder_block"


def body(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """All layers but the head, in order."""
    return tuple(layer for layer in layers if layer.kind != HEAD)


def final_norm(layers: Sequence[Layer]) -> str | None:
    """The name of the last layer of kind `norm`; None for backbones that have none, such as ResNets."""
    return next((layer.name for layer in reversed(layers) if layer.kind == NORM), None)


def head_plan(view: View, start: Start) -> LayerPlan:
    """The head of a child: a clone from the nearest ancestor of this task, the start itself included, else new."""
    name = next((layer.name for layer in start.layers if layer.kind == HEAD), HEAD)
    if start.same_task:
        return LayerPlan(name=name, action="clone")
    ancestor = next((route for route in lineage(view, start) if route.task == view.spec.task), None)
    if ancestor is not None and any(layer.name == name and layer.kind == HEAD for layer in ancestor.layers):
        return LayerPlan(name=name, action="clone", source=ancestor.id)
    return LayerPlan(name=name, action="new")


def lineage(view: View, start: Start) -> Iterator[RouteSummary]:
    """The start's route and its ancestors, nearest first, as far as they are still routes of the view.

    A route that its own task has replaced since, or a private one, is in no view: there the walk ends.
    """
    seen: set[str] = set()
    route_id = start.ref if isinstance(start.ref, str) else None
    while route_id is not None and route_id not in seen:
        seen.add(route_id)
        found = view.route(route_id)
        if found is None:
            return
        yield found.summary
        route_id = found.summary.parent


def with_head(view: View, start: Start, plans: Sequence[LayerPlan]) -> tuple[LayerPlan, ...]:
    """`plans` for the body, and the head where the start has it, at the end where it has none."""
    head = head_plan(view, start)
    if not any(layer.kind == HEAD for layer in start.layers):
        return (*plans, head)
    by_name = {plan.name: plan for plan in (*plans, head)}
    return tuple(by_name[layer.name] for layer in start.layers)
