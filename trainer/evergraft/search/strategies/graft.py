"""`graft`, the default: one long child on an unbroken chain, low in rank, with every small tensor trained.

The parent is the route with the most training behind its lineage, this task's own or a public one, else the root, so
each task extends what the whole graph has learned; learned again, an early task moves to the end of the chain, and its
route changes only if that is better, or if its score is of other data. A guard looks first, forward only: a head in
closed form on the parent and on the root; only a gap far beyond noise sends a task to the root. The fitted head is
where training starts. On each encoder block go a `lora` delta on all matrices and `bias` and `norm` deltas; embeddings,
class token, final norm and head are trained whole; a backbone without encoder blocks is trained whole. AdamW, 5 %
warm-up, cosine.
``parameters``: rank, wide (train everything whole), guard (points of validation quality), parent. Through the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evergraft.errors import SpecError
from evergraft.graph.route import Layer
from evergraft.search.budget import samples_each
from evergraft.search.layers import BLOCK, body, with_head
from evergraft.search.starts import decide, route_start
from evergraft.search.strategies.lora import MATRICES
from evergraft.search.strategies.single import NEWEST, choose_parent, hyperparameters, most_trained
from evergraft.search.values import (
    CandidatePlan,
    DeltaPlan,
    Finish,
    Generation,
    LayerPlan,
    RouteView,
    Schedule,
    SlotRef,
    SlotResult,
    View,
)

DEFAULT_RANK = 16
DEFAULT_GUARD = 25
"""Points of validation quality by which a head on the root must beat one on the parent to break the chain."""
MANY_EPOCHS = 20
"""Beyond so many passes over the training images, a quarter of the budget tries the root as well."""
LEARNING_RATE = 0.003
WIDE_LEARNING_RATE = 0.001


@dataclass(frozen=True)
class Graft:
    """The strategy; it remembers nothing."""

    name: str = "graft"
    version: int = 2

    def next(self, view: View) -> Generation | Finish:
        """Look (one generation of probes, if there is anything to compare), train, decide.

        Raises:
            SpecError: too few samples to train or to look, or a parent that is no public route.
        """
        if view.stop or _has_trained(view):
            return decide(view)
        route, why = _parent(view)
        if route is view.own:
            return _continue(view, route, why)
        if not view.history:
            return _look(view, route)
        return _train(view, route, why)


def _parent(view: View) -> tuple[RouteView, str]:
    """The route to start from, and why: this task's own only where no other has more training behind it."""
    route, why = choose_parent(view)
    chain = most_trained(view)
    if not _guarded(view) or route is not view.own or chain is None:
        return route, why
    behind, own = chain.summary.lineage_samples, route.summary.lineage_samples
    if behind <= own:
        return route, why
    return chain, f"most training behind its lineage: {behind} samples, behind this task's own route {own}"


def _guarded(view: View) -> bool:
    """Whether the parent is this strategy's choice, so that it may also choose the root."""
    return str(view.spec.search.parameters.get("parent") or NEWEST) == NEWEST


def _has_trained(view: View) -> bool:
    return any(plan.kind == "train" for record in view.history for plan in record.plan.candidates)


def _continue(view: View, route: RouteView, why: str) -> Generation:
    """This task's own route trained on, its head included; the result has to beat it while its score counts."""
    start = route_start(view, route.summary)
    layers = with_head(view, start, _grafted(view, start.layers))
    plan = _child(view, start.ref, layers, samples=samples_each(view.spec.search, candidates=1), reason=why)
    return Generation(candidates=(replace(plan, threshold=start.score),), sampled={route.summary.id: 1})


def _look(view: View, parent: RouteView) -> Generation:
    """Heads in closed form on the frozen parent and on the frozen root: what the chain is worth to this task."""
    routes = [parent]
    if view.root is not None and not parent.summary.is_root:
        routes.append(view.root)
    samples = _look_samples(view, probes=len(routes))
    return Generation(candidates=tuple(_probe(view, route, samples) for route in routes))


def _look_samples(view: View, *, probes: int) -> int:
    """Training images that each probe is fitted to: all of them, as far as `search.forwardSamples` reaches.

    Raises:
        SpecError: it does not reach for one batch.
    """
    search = view.spec.search
    batch = search.batch_size
    every = -(-view.facts.train_samples // batch) * batch
    samples = min(every, search.forward_samples // probes // batch * batch)
    if samples < batch:
        raise SpecError(
            f"search.forwardSamples: {search.forward_samples} leave no batch of {batch} for each of {probes} probe(s); "
            f"set at least {probes * batch}"
        )
    return samples


def _probe(view: View, route: RouteView, samples: int) -> CandidatePlan:
    start = route_start(view, route.summary)
    shared = [LayerPlan(name=layer.name, action="share") for layer in body(start.layers)]
    layers = with_head(view, start, shared)
    fitted = LayerPlan(name=layers[-1].name, action="new", init="lda")
    return CandidatePlan(
        kind="probe",
        start=start.ref,
        layers=(*layers[:-1], fitted),
        hyperparameters=_hyperparameters(view),
        samples=samples,
        validations=1,
        schedule=Schedule(span=samples),
        reason=f"a head in closed form on {start.title}",
    )


def _train(view: View, parent: RouteView, why: str) -> Generation:
    """One child with the whole budget on the chain, or on the root if the guard says so."""
    probes = view.history[0].results
    chain, root = probes[0], probes[1] if len(probes) > 1 else None
    guard = _number(view, "guard", DEFAULT_GUARD, high=100)
    words = f"{why}; a fitted head there reaches {chain.quality:.4f}"
    if root is not None:
        words += f", on the root {root.quality:.4f}"
        if _guarded(view) and root.usable and (not chain.usable or (root.quality - chain.quality) * 100 > guard):
            assert view.root is not None
            told = f"{words}: more than {guard} points better, so the chain is broken here"
            return _children(view, [(view.root, root, told, 1.0)])
    shares = [(parent, chain, words, 1.0)]
    search = view.spec.search
    seen_often = search.samples > MANY_EPOCHS * view.facts.train_samples
    enough = search.samples // 4 >= search.validations * search.batch_size
    if seen_often and enough and _guarded(view) and root is not None and view.root is not None:
        shares = [(parent, chain, words, 0.75), (view.root, root, "from the root, so that a bad chain shows", 0.25)]
    return _children(view, shares)


def _children(view: View, shares: Sequence[tuple[RouteView, SlotResult, str, float]]) -> Generation:
    """Children of what was probed: its route, its result, the reason and the part of the budget that each gets."""
    search = view.spec.search
    plans = []
    for route, probe, reason, share in shares:
        samples = int(search.samples * share) // search.batch_size * search.batch_size
        plans.append(_on_probe(view, route, probe, samples=samples, reason=reason))
    counts = {route.summary.id: 1 for route, _, _, _ in shares}
    return Generation(candidates=tuple(plans), sampled=counts)


def _on_probe(view: View, route: RouteView, probe: SlotResult, *, samples: int, reason: str) -> CandidatePlan:
    """A child that starts from a probe, with its fitted head; from the route itself where the probe failed."""
    if probe.usable:
        layers = probe.layers
        head = LayerPlan(name=layers[-1].name, action="clone")
        start: str | SlotRef = SlotRef(generation=probe.generation, slot=probe.slot)
        return _child(view, start, (*_grafted(view, layers), head), samples=samples, reason=reason)
    begin = route_start(view, route.summary)
    return _child(view, begin.ref, with_head(view, begin, _grafted(view, begin.layers)), samples=samples, reason=reason)


def _grafted(view: View, layers: Sequence[Layer]) -> tuple[LayerPlan, ...]:
    """What becomes of each layer but the head: deltas on encoder blocks, everything else trained whole."""
    rank = _number(view, "rank", DEFAULT_RANK, low=1)
    wide = bool(view.spec.search.parameters.get("wide", False))
    deltas = (
        DeltaPlan(kind="lora", config={"rank": rank, "targets": list(MATRICES)}),
        DeltaPlan(kind="bias"),
        DeltaPlan(kind="norm"),
    )
    return tuple(
        LayerPlan(name=layer.name, action="share", deltas=deltas)
        if layer.kind == BLOCK and not wide
        else LayerPlan(name=layer.name, action="clone")
        for layer in body(layers)
    )


def _child(
    view: View, start: str | SlotRef, layers: tuple[LayerPlan, ...], *, samples: int, reason: str
) -> CandidatePlan:
    values = _hyperparameters(view)
    return CandidatePlan(
        kind="train",
        start=start,
        layers=layers,
        hyperparameters=values,
        samples=samples,
        validations=view.spec.search.validations,
        schedule=Schedule(span=samples, kind=str(values["schedule"])),
        reason=reason,
    )


def _hyperparameters(view: View) -> dict[str, Any]:
    wide = bool(view.spec.search.parameters.get("wide", False))
    return hyperparameters(view, learning_rate=WIDE_LEARNING_RATE if wide else LEARNING_RATE)


def _number(view: View, name: str, default: int, *, low: int = 0, high: int = 1024) -> int:
    value = view.spec.search.parameters.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SpecError(f"search.parameters.{name}: {value!r} is no whole number from {low} to {high}")
    return value


GRAFT = Graft()
