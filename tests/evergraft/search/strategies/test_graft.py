"""`graft`: look, then one child on the chain; when the chain is broken; what is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evergraft.errors import SpecError
from evergraft.graph.route import RouteSummary
from evergraft.search import closing, codec
from evergraft.search.strategies import get
from evergraft.search.validate import check_plan
from evergraft.search.values import Finish, Generation, GenerationRecord, SlotRef, View
from evergraft.testing.views import made_child, made_result, made_root, made_view

ROOT = made_root()
FIRST = made_child("a/first", ROOT, clones=["norm"])
SECOND = made_child("b/second", FIRST, clones=["norm"])
OWN = made_child("t/new", SECOND, clones=["norm"], quality=0.6)


def view_of(routes: list[RouteSummary], **search: Any) -> View:
    return made_view(routes, **{"strategy": "graft", "samples": 1024, "forward_samples": 4096, **search})


def planned(view: View) -> Generation:
    plan = get("graft").next(view)
    check_plan(view, plan)
    assert isinstance(plan, Generation)
    assert codec.from_json(codec.to_json(plan)) == plan
    return plan


def after(view: View, plan: Generation, *qualities: float | None) -> View:
    ref = len(view.history)
    results = tuple(
        made_result(view, SlotRef(ref, slot), candidate, quality)
        for slot, (candidate, quality) in enumerate(zip(plan.candidates, qualities, strict=True))
    )
    return replace(view, history=(*view.history, GenerationRecord(plan=plan, results=results)))


def test_it_looks_at_the_chain_and_at_the_root_before_it_trains() -> None:
    plan = planned(view_of([ROOT, FIRST, SECOND]))
    assert [(candidate.kind, candidate.start) for candidate in plan.candidates] == [
        ("probe", SECOND.id),
        ("probe", ROOT.id),
    ]
    assert {candidate.layers[-1].init for candidate in plan.candidates} == {"lda"}
    assert {layer.action for candidate in plan.candidates for layer in candidate.layers[:-1]} == {"share"}


def test_the_first_task_looks_at_the_root_alone() -> None:
    assert [candidate.start for candidate in planned(view_of([ROOT])).candidates] == [ROOT.id]


def test_a_short_look_beside_the_chain_does_not_break_it() -> None:
    view = view_of([ROOT, FIRST, SECOND])
    view = after(view, planned(view), 0.4, 0.6)
    (child,) = planned(view).candidates
    assert child.start == SlotRef(0, 0)
    assert closing.parent_of(view, child).id == SECOND.id
    assert "0.4000" in child.reason
    assert "root 0.6000" in child.reason


@pytest.mark.parametrize(
    ("guard", "qualities", "root"), [(25, (0.3, 0.56), True), (10, (0.4, 0.6), True), (0, (0.5, 0.5), False)]
)
def test_only_a_gap_beyond_the_guard_sends_a_task_to_the_root(
    guard: int, qualities: tuple[float, float], root: bool
) -> None:
    view = view_of([ROOT, FIRST], parameters={"guard": guard})
    view = after(view, planned(view), *qualities)
    plan = planned(view)
    assert plan.candidates[0].start == SlotRef(0, 1 if root else 0)
    assert plan.sampled == {(ROOT if root else FIRST).id: 1}


def test_blocks_get_every_small_change_and_the_rest_is_trained_whole() -> None:
    view = view_of([ROOT], parameters={"rank": 4})
    view = after(view, planned(view), 0.5)
    (child,) = planned(view).candidates
    for layer in child.layers:
        is_block = layer.name.startswith("block")
        assert layer.action == ("share" if is_block else "clone"), layer
        assert [delta.kind for delta in layer.deltas] == (["lora", "bias", "norm"] if is_block else [])
    assert child.layers[1].deltas[0].config["rank"] == 4
    assert child.hyperparameters["learningRate"] == 0.003
    assert child.samples == 1024


def test_wide_clones_every_layer_at_a_lower_rate() -> None:
    view = view_of([ROOT], parameters={"wide": True})
    view = after(view, planned(view), 0.5)
    (child,) = planned(view).candidates
    assert {layer.action for layer in child.layers} == {"clone"}
    assert child.hyperparameters["learningRate"] == 0.001


def test_an_own_route_is_trained_on_without_looking() -> None:
    view = view_of([ROOT, FIRST, SECOND, OWN])
    (child,) = planned(view).candidates
    assert (child.kind, child.start, child.threshold) == ("train", OWN.id, 0.6)
    view = after(view, planned(view), 0.5)
    assert get("graft").next(view) == Finish(outcome="keep", reason="no candidate beat the present route (0.6000)")


def test_a_probe_that_failed_leaves_the_route_itself_as_the_start() -> None:
    view = view_of([ROOT, FIRST])
    view = after(view, planned(view), None, 0.3)
    # A root that can be read goes before a parent that cannot.
    assert planned(view).candidates[0].start == SlotRef(0, 1)
    view = view_of([ROOT])
    view = after(view, planned(view), None)
    (child,) = planned(view).candidates
    assert child.start == ROOT.id
    assert (child.layers[-1].action, child.layers[-1].init) == ("new", "random")


def test_much_data_seen_often_lets_the_root_try_too() -> None:
    view = view_of([ROOT, FIRST], samples=32_000)
    view = after(view, planned(view), 0.5, 0.5)
    plan = planned(view)
    assert [(c.start, c.samples) for c in plan.candidates] == [(SlotRef(0, 0), 24_000), (SlotRef(0, 1), 8_000)]
    view = after(view, plan, 0.7, 0.8)
    finish = get("graft").next(view)
    assert isinstance(finish, Finish)
    assert finish.winner == SlotRef(1, 1)


def test_the_root_does_not_try_where_its_quarter_would_be_too_small() -> None:
    view = view_of([ROOT, FIRST], samples=256)
    view = replace(view, facts=replace(view.facts, train_samples=10))
    view = after(view, planned(view), 0.5, 0.5)
    assert [(c.start, c.samples) for c in planned(view).candidates] == [(SlotRef(0, 0), 256)]


def test_a_named_parent_is_meant() -> None:
    plan = planned(view_of([ROOT, FIRST, SECOND], parameters={"parent": "a/first"}))
    assert [candidate.start for candidate in plan.candidates] == [FIRST.id, ROOT.id]


def test_a_named_parent_is_never_left_for_the_root() -> None:
    view = view_of([ROOT, FIRST, SECOND], parameters={"parent": "a/first"})
    view = after(view, planned(view), 0.2, 0.9)
    (child,) = planned(view).candidates
    assert child.start == SlotRef(0, 0)
    assert "root 0.9000" in child.reason


def test_a_task_learned_again_moves_to_the_end_of_the_chain_if_that_is_better() -> None:
    later = made_child("z/later", OWN, clones=["norm"])
    view = view_of([ROOT, FIRST, SECOND, OWN, later])
    assert [candidate.start for candidate in planned(view).candidates] == [later.id, ROOT.id]
    view = after(view, planned(view), 0.5, 0.3)
    (child,) = planned(view).candidates
    assert "behind this task's own route" in child.reason
    worse, better = (after(view, planned(view), quality) for quality in (0.55, 0.65))
    assert get("graft").next(worse) == Finish(outcome="keep", reason="no candidate beat the present route (0.6000)")
    finish = get("graft").next(better)
    assert isinstance(finish, Finish)
    assert finish.winner == SlotRef(1, 0)


def test_what_the_look_found_is_kept_with_the_route() -> None:
    view = view_of([ROOT, FIRST])
    view = after(view, planned(view), 0.5, 0.25)
    assert closing.probed(view) == {
        "probes": [
            {"task": "a/first", "quality": 0.5, "logLoss": None},
            {"task": ROOT.task, "quality": 0.25, "logLoss": None},
        ]
    }
    assert closing.probed(view_of([ROOT])) == {}


def test_a_budget_that_allows_no_look_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"search\.forwardSamples: 40 leave no batch of 32 for each of 2"):
        get("graft").next(view_of([ROOT, FIRST], forward_samples=40))


def test_no_generation_spends_more_than_it_is_given() -> None:
    plan = planned(view_of([ROOT, FIRST], forward_samples=200))
    assert [candidate.samples for candidate in plan.candidates] == [96, 96]
