"""What the engine checks of every plan before it acts on it: privacy, budget and shapes.

A strategy is trusted with none of them, so a new one cannot break a promise. Pure. Called by the engine and by
replay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from evergraft.errors import ConflictError, SpecError
from evergraft.graph.route import HEAD, Layer
from evergraft.search.budget import check_samples, spent
from evergraft.search.values import CandidatePlan, Finish, Generation, LayerPlan, SlotRef, View

SCHEDULES = ("cosine", "constant", "restarts")


def check_plan(view: View, plan: Generation | Finish) -> None:
    """Refuse what no strategy may ask for.

    Raises:
        ConflictError: a candidate starts from, or takes a layer of, a route that the view does not offer.
        SpecError: the budget does not reach (naming search.samples or search.forwardSamples), or the strategy is
            defective (naming search.strategy).
    """
    if isinstance(plan, Finish):
        check_finish(view, plan)
    else:
        check_generation(view, plan)


def check_finish(view: View, finish: Finish) -> None:
    """Refuse a winner that does not exist or is of no use, and `keep` where there is nothing to keep.

    Raises:
        SpecError: naming search.strategy.
    """
    if (finish.outcome == "commit") != (finish.winner is not None):
        raise _defect(view, f"its outcome {finish.outcome} and its winner {finish.winner} do not go together")
    if finish.outcome == "keep" and view.own is None:
        raise _defect(view, "it keeps a route that the task does not have")
    if finish.winner is not None:
        result = view.result(finish.winner)
        if result is None or not result.usable:
            raise _defect(view, f"its winner {_name(finish.winner)} has no usable result")


def check_generation(view: View, generation: Generation) -> None:
    """Refuse a generation that is empty, past a stop or past the budget, and any candidate of wrong shape.

    Raises:
        ConflictError, SpecError: as `check_plan`.
    """
    if view.stop is not None:
        raise _defect(view, f"it plans on although the search was stopped ({view.stop})")
    if not generation.candidates:
        raise _defect(view, "it plans a generation without candidates")
    if any(len(record.results) < len(record.plan.candidates) for record in view.history):
        raise _defect(view, "it plans on before every slot of the generations so far has a result")
    unknown = sorted(route for route in generation.sampled if view.route(route) is None)
    if unknown:
        raise ConflictError(f"{view.spec.task}: sampled counts name {unknown[0][:12]}…, no route that it may see")
    for candidate in generation.candidates:
        _check_candidate(view, candidate)
    _check_budget(view, generation)


def _check_budget(view: View, generation: Generation) -> None:
    """Plans are charged, not results: a candidate that fails or diverges has spent what it was given.

    Forward samples are those of probes; validations of trained candidates are not charged.
    """
    trained, evaluated = spent(view)
    trained += sum(plan.samples for plan in generation.candidates if plan.kind == "train")
    evaluated += sum(plan.samples for plan in generation.candidates if plan.kind == "probe")
    search = view.spec.search
    if trained > search.samples:
        raise SpecError(f"search.samples: {search.strategy} plans {trained} trained samples of {search.samples}")
    if evaluated > search.forward_samples:
        raise SpecError(
            f"search.forwardSamples: {search.strategy} plans {evaluated} evaluated samples of {search.forward_samples}"
        )


def _check_candidate(view: View, plan: CandidatePlan) -> None:
    _check_layers(view, plan, _start_layers(view, plan.start))
    search = view.spec.search
    if plan.samples <= 0 or plan.samples % search.batch_size:
        raise _defect(view, f"{plan.samples} samples are not whole batches of {search.batch_size}")
    if plan.threshold is not None and not math.isfinite(plan.threshold):
        raise _defect(view, f"the threshold {plan.threshold} is not finite")
    if plan.kind != "train":
        return
    check_samples(search, plan.samples)
    if not 1 <= plan.validations <= plan.samples // search.batch_size:
        raise _defect(view, f"{plan.validations} validations do not fit into {plan.samples} samples")
    schedule = plan.schedule
    if schedule.kind not in SCHEDULES or not 0 <= schedule.offset <= schedule.span - plan.samples:
        raise _defect(view, f"{plan.samples} samples do not lie within the {schedule.kind} schedule {schedule}")


def _start_layers(view: View, start: str | SlotRef) -> tuple[Layer, ...]:
    """The layers of a start that this task may use."""
    if isinstance(start, SlotRef):
        result = view.result(start)
        if result is None or not result.usable:
            raise _defect(view, f"it starts from candidate {_name(start)}, which has no usable result")
        return result.layers
    found = view.route(start)
    if found is None:
        raise ConflictError(
            f"{view.spec.task}: it starts from route {start[:12]}…, neither its own nor public at version {view.base}"
        )
    if found.summary.visibility != "Public" and found.summary.task != view.spec.task:
        raise ConflictError(
            f"{view.spec.task}: it starts from {found.summary.task}, which is private; private tasks are never reused"
        )
    return found.summary.layers


def _check_layers(view: View, plan: CandidatePlan, layers: Sequence[Layer]) -> None:
    """Every layer of the start once and in order, anything else new; one head, last; something to train."""
    given = {layer.name for layer in layers}
    named = [item.name for item in plan.layers]
    if len(set(named)) != len(named) or [name for name in named if name in given] != [layer.name for layer in layers]:
        raise _defect(view, "a candidate does not name every layer of its start once and in order")
    kinds = {layer.name: layer.kind for layer in layers}
    for item in plan.layers:
        _check_layer(view, item, kind=kinds.get(item.name))
        if item.init != "random" and (plan.kind, item.action) != ("probe", "new"):
            raise _defect(view, f"layer {item.name} is fitted in closed form, which only a probe's new head can be")
    left = [item for item in plan.layers if item.action != "drop"]
    heads = [item for item in left if (item.kind or kinds.get(item.name, HEAD)) == HEAD]
    if len(heads) != 1 or left[-1] is not heads[0]:
        raise _defect(view, "a candidate does not end with one head")
    if plan.kind == "train" and all(item.action == "share" and not item.deltas for item in left):
        raise _defect(view, "a candidate trains nothing")


def _check_layer(view: View, item: LayerPlan, *, kind: str | None) -> None:
    """One layer's action; `kind` is that of the start's layer, None if the start has none of that name."""
    if kind is None and item.action != "new":
        raise _defect(view, f"layer {item.name} is not in the start, so it can only be new, not {item.action}")
    if item.deltas and item.action != "share":
        raise _defect(view, f"layer {item.name} gets deltas although it is not shared")
    if item.action == "new" and item.kind is None and (kind or HEAD) != HEAD:
        raise _defect(view, f"the new layer {item.name} has no kind")
    if item.source is not None:
        found = view.route(item.source)
        if item.action != "clone" or found is None or found.summary.task != view.spec.task:
            raise ConflictError(f"{view.spec.task}: layer {item.name} is not cloned from a route of this task")
        if not any(layer.name == item.name and layer.kind == kind for layer in found.summary.layers):
            raise _defect(view, f"layer {item.name} is not in the route it is cloned from")


def _defect(view: View, what: str) -> SpecError:
    return SpecError(f"search.strategy: {view.spec.search.strategy} is defective: {what}; choose another strategy")


def _name(ref: SlotRef) -> str:
    return f"{ref.generation}-{ref.slot}"
