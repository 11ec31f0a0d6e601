"""Every check the engine makes of a plan, each with a plan that breaks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evergraft.errors import ConflictError, SpecError
from evergraft.search.strategies import get
from evergraft.search.validate import check_plan
from evergraft.search.values import (
    CandidatePlan,
    DeltaPlan,
    Finish,
    Generation,
    LayerPlan,
    RouteView,
    Schedule,
    SlotRef,
    View,
)
from evergraft.testing.views import advance, made_child, made_id, made_root, made_view

ROOT = made_root()
OWN = made_child("t/new", ROOT, clones=["norm"])
OTHER = made_child("a/other", ROOT, clones=["norm"])
SECRET = made_child("z/secret", ROOT, clones=["norm"], visibility="Private")
VIEW = made_view(
    [ROOT, OTHER, SECRET], strategy="finetune", samples=64, forward_samples=64, batch_size=8, validations=2
)


def child(view: View = VIEW) -> CandidatePlan:
    plan = get("finetune").next(view)
    assert isinstance(plan, Generation)
    return plan.candidates[0]


def check(view: View = VIEW, **changes: Any) -> None:
    check_plan(view, Generation(candidates=(replace(child(), **changes),)))


def layers(change: Callable[[list[LayerPlan]], object]) -> tuple[LayerPlan, ...]:
    plans = list(child().layers)
    change(plans)
    return tuple(plans)


def test_a_good_plan_passes() -> None:
    check()


def test_a_route_that_the_view_does_not_offer() -> None:
    for route in (SECRET.id, made_id("nowhere")):
        with pytest.raises(ConflictError, match="neither its own nor public at version 3"):
            check(start=route)


def test_a_private_route_is_refused_even_in_a_view() -> None:
    view = replace(VIEW, routes=(*VIEW.routes, RouteView(SECRET)))
    with pytest.raises(ConflictError, match="z/secret, which is private; private tasks are never reused"):
        check(view, start=SECRET.id)


def test_an_own_private_route_is_fine() -> None:
    own = replace(OWN, visibility="Private")
    view = made_view([ROOT, own], strategy="finetune", samples=64, batch_size=8, validations=2)
    check_plan(view, Generation(candidates=(child(view),)))


def test_an_earlier_candidate_must_exist_and_be_usable() -> None:
    for quality, slot in ((None, 0), (0.5, 1)):
        view = replace(VIEW, spec=replace(VIEW.spec, search=replace(VIEW.spec.search, samples=128)))
        view = advance(view, Generation(candidates=(child(),)), lambda ref, _, q=quality: q)  # type: ignore[misc]
        with pytest.raises(SpecError, match=f"candidate 0-{slot}, which has no usable result"):
            check(view, start=SlotRef(0, slot))
    view = replace(VIEW, spec=replace(VIEW.spec, search=replace(VIEW.spec.search, samples=128)))
    check(advance(view, Generation(candidates=(child(),)), lambda ref, _: 0.5), start=SlotRef(0, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop(0), "every layer of its start once and in order"),
        (lambda p: p.reverse(), "every layer of its start once and in order"),
        (lambda p: p.insert(0, p[0]), "every layer of its start once and in order"),
        (lambda p: p.insert(0, LayerPlan("extra", "clone")), "extra is not in the start, so it can only be new"),
        (lambda p: p.insert(0, LayerPlan("extra", "new")), "does not end with one head"),
        (lambda p: p.__setitem__(1, LayerPlan("block.00", "new")), "the new layer block.00 has no kind"),
        (lambda p: p.__setitem__(1, replace(p[1], deltas=(DeltaPlan("lora"),))), "block.00 gets deltas although"),
        (lambda p: p.__setitem__(-1, replace(p[-1], action="drop")), "does not end with one head"),
    ],
)
def test_layers_of_wrong_shape(change: Callable[[list[LayerPlan]], object], message: str) -> None:
    with pytest.raises(SpecError, match=f"search.strategy: finetune is defective: .*{message}"):
        check(layers=layers(change))


def test_a_plan_that_trains_nothing() -> None:
    view = made_view([ROOT, OWN], strategy="finetune", samples=64, batch_size=8, validations=2)
    plan = child(view)
    shared = tuple(replace(layer, action="share") for layer in plan.layers)
    with pytest.raises(SpecError, match="trains nothing"):
        check_plan(view, Generation(candidates=(replace(plan, layers=shared),)))
    check_plan(view, Generation(candidates=(replace(plan, layers=shared, kind="probe"),)))


def test_layers_come_only_from_routes_of_this_task() -> None:
    view = made_view([ROOT, OTHER, OWN], strategy="finetune", samples=64, batch_size=8, validations=2)
    plan = replace(child(view), start=OTHER.id)
    good = (*plan.layers[:-1], LayerPlan("head", "clone", source=OWN.id))
    check_plan(view, Generation(candidates=(replace(plan, layers=good),)))
    for action, source in (("clone", OTHER.id), ("clone", made_id("nowhere")), ("share", OWN.id)):
        bad = (*plan.layers[:-1], LayerPlan("head", action, source=source))  # type: ignore[arg-type]
        with pytest.raises(ConflictError, match="head is not cloned from a route of this task"):
            check_plan(view, Generation(candidates=(replace(plan, layers=bad),)))


def test_the_trained_budget() -> None:
    with pytest.raises(SpecError, match=r"search\.samples: finetune plans 72 trained samples of 64"):
        check(samples=72, schedule=Schedule(span=72))
    view = advance(VIEW, Generation(candidates=(child(),)), lambda ref, _: None)
    with pytest.raises(SpecError, match=r"search\.samples: finetune plans 128 trained samples of 64"):
        check(view)


def test_the_forward_budget_is_charged_to_probes_alone() -> None:
    check(kind="probe", samples=64)
    with pytest.raises(SpecError, match=r"search\.forwardSamples: finetune plans 72 evaluated samples of 64"):
        check(kind="probe", samples=72)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 8}, r"search\.samples: .* under one batch of 8 for each of 2 validations; set at least 16"),
        ({"samples": 60}, "60 samples are not whole batches of 8"),
        ({"samples": 0}, "0 samples are not whole batches"),
        ({"validations": 0}, "0 validations do not fit"),
        ({"validations": 9}, "9 validations do not fit"),
        ({"threshold": float("nan")}, "threshold nan is not finite"),
        ({"schedule": Schedule(span=63)}, "do not lie within"),
        ({"schedule": Schedule(span=64, offset=8)}, "do not lie within"),
        ({"schedule": Schedule(span=64, offset=-8)}, "do not lie within"),
        ({"schedule": Schedule(span=64, kind="linear")}, "do not lie within"),
    ],
)
def test_training_of_wrong_shape(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check(**changes)


def test_a_generation_needs_candidates_and_known_counts() -> None:
    with pytest.raises(SpecError, match="without candidates"):
        check_plan(VIEW, Generation(candidates=()))
    with pytest.raises(ConflictError, match="no route that it may see"):
        check_plan(VIEW, Generation(candidates=(child(),), sampled={SECRET.id: 1}))


def test_no_generation_after_a_stop_or_before_all_results() -> None:
    with pytest.raises(SpecError, match=r"although the search was stopped \(timeout\)"):
        check(replace(VIEW, stop="timeout"))
    view = advance(VIEW, Generation(candidates=(child(),)), lambda ref, _: 0.5)
    view = replace(view, history=(replace(view.history[0], results=()),))
    with pytest.raises(SpecError, match="before every slot"):
        check(view)


def test_ends() -> None:
    view = advance(VIEW, Generation(candidates=(child(),)), lambda ref, _: 0.5)
    check_plan(view, Finish("commit", winner=SlotRef(0, 0)))
    check_plan(view, Finish("none"))
    for finish in (Finish("commit"), Finish("none", winner=SlotRef(0, 0))):
        with pytest.raises(SpecError, match="do not go together"):
            check_plan(view, finish)
    for winner in (SlotRef(0, 1), SlotRef(1, 0), SlotRef(-1, 0)):
        with pytest.raises(SpecError, match="has no usable result"):
            check_plan(view, Finish("commit", winner=winner))
    with pytest.raises(SpecError, match="keeps a route that the task does not have"):
        check_plan(view, Finish("keep"))
    check_plan(made_view([ROOT, OWN]), Finish("keep"))
