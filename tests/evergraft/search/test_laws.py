"""Laws that hold for every search of every shipped strategy: privacy, ladders, own layers, purity, budget, replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergraft import canonical
from evergraft.api.resolved import Hyperparameter
from evergraft.graph.route import Layer, RouteSummary
from evergraft.search.ladders import ladders_of
from evergraft.search.replay import replay
from evergraft.search.starts import candidates
from evergraft.search.strategies import STRATEGIES, get
from evergraft.search.validate import check_plan
from evergraft.search.values import CandidatePlan, Finish, Generation, RouteView, SlotRef, View
from evergraft.testing.views import advance, made_child, made_root, made_view, play

TASK = "t/new"
OPTIONAL = (
    Hyperparameter(name="schedule", start="cosine", values=("constant", "cosine", "restarts")),
    Hyperparameter(name="numLayers", start=3, values=(1, 2, 3)),
    Hyperparameter(name="adapterWidth", start=32),
    Hyperparameter(name="imageSize", start=28, values=(28, 32)),
)


@dataclass(frozen=True)
class Case:
    """A search and how its candidates turn out."""

    view: View
    private: frozenset[str]
    salt: int

    def quality(self, ref: SlotRef, _plan: CandidatePlan) -> float | None:
        draw = int(canonical.digest([self.salt, ref.generation, ref.slot])[:8], 16) / 0xFFFFFFFF
        return None if draw < 0.1 else draw


@st.composite
def routes(draw: st.DrawFn) -> list[RouteSummary]:
    """A root and a chain or bush of tasks on it, some private, perhaps one of them our own."""
    made = [made_root(blocks=3, position=True)]
    tasks = draw(st.lists(st.sampled_from(["a/1", "b/2", "c/3", "d/4", TASK]), unique=True, max_size=5))
    for task in tasks:
        usable = [route for route in made if route.visibility == "Public"]
        parent = draw(st.sampled_from(usable))
        names = [layer.name for layer in parent.layers if layer.kind != "head"]
        made.append(
            made_child(
                task,
                parent,
                clones=draw(st.sets(st.sampled_from(names))),
                quality=draw(st.floats(0, 1)),
                visibility=draw(st.sampled_from(["Public", "Public", "Private"])),
                hyperparameters=draw(
                    st.sampled_from([{}, {"optimizer": "SGD", "learningRate": 0.2, "momentum": 0.33}])
                ),
            )
        )
    return made


@st.composite
def cases(draw: st.DrawFn, strategy: str | None = None) -> Case:
    made = draw(routes())
    name = strategy or draw(st.sampled_from(sorted(STRATEGIES)))
    search: dict[str, Any] = {"strategy": name, "seed": draw(st.integers(0, 1 << 30)), "batch_size": 4}
    search |= {
        "validations": 2,
        "samples": draw(st.integers(100, 500)),
        "size_decay": draw(st.sampled_from([1.0, 0.9])),
    }
    if name == "mu2net":
        search["parameters"] = {"generations": draw(st.integers(1, 3)), "candidates": draw(st.integers(1, 4))}
        search["hyperparameters"] = tuple(draw(st.lists(st.sampled_from(OPTIONAL), unique_by=lambda item: item.name)))
    sampled = {route.id: draw(st.integers(0, 4)) for route in made}
    private = frozenset(route.id for route in made if route.visibility == "Private" and route.task != TASK)
    return Case(
        view=made_view(made, task=TASK, sampled=sampled, **search), private=private, salt=draw(st.integers(0, 99))
    )


def plans_of(case: Case) -> Iterator[tuple[View, CandidatePlan, tuple[Layer, ...]]]:
    """Every candidate of the played search, with the view it was planned in and its start's layers."""
    view, _ = play(case.view, get(case.view.spec.search.strategy), case.quality)
    for generation, record in enumerate(view.history):
        earlier = replace(view, history=view.history[:generation])
        for plan in record.plan.candidates:
            yield earlier, plan, start_layers(earlier, plan)


def start_layers(view: View, plan: CandidatePlan) -> tuple[Layer, ...]:
    if isinstance(plan.start, SlotRef):
        result = view.result(plan.start)
        assert result is not None
        return result.layers
    route = view.route(plan.start)
    assert route is not None
    return route.summary.layers


@given(cases())
def test_parents_are_never_private(case: Case) -> None:
    for _, plan, _ in plans_of(case):
        assert plan.start not in case.private
        assert not case.private & {layer.source for layer in plan.layers}


@given(cases())
def test_private_routes_are_never_drawn_even_if_a_view_lets_them_in(case: Case) -> None:
    intruder = made_child("z/secret", made_root(blocks=3), clones=["norm"], visibility="Private", lineage_samples=9999)
    view = replace(case.view, routes=(*case.view.routes, RouteView(summary=intruder, version=99)))
    for _, plan, _ in plans_of(replace(case, view=view)):
        assert plan.start != intruder.id


@given(cases("mu2net"))
def test_every_value_stands_on_its_ladder(case: Case) -> None:
    ladders = ladders_of(case.view.spec.search.hyperparameters)
    for _, plan, _ in plans_of(case):
        for ladder in ladders.values():
            assert plan.hyperparameters[ladder.name] in ladder.values


@given(cases("mu2net"))
def test_layers_of_this_task_alone_are_always_trained(case: Case) -> None:
    for view, plan, layers in plans_of(case):
        kept = {item.name: item for item in plan.layers if item.action != "drop"}
        for layer in layers:
            if layer.name in kept and view.users.get(layer.module, 0) == 0:
                assert kept[layer.name].action == "clone"


@given(cases("mu2net"))
def test_the_final_norm_is_always_trained(case: Case) -> None:
    for _, plan, _ in plans_of(case):
        assert [item.action for item in plan.layers if item.name == "norm"] == ["clone"]


@given(cases("mu2net"))
def test_candidates_of_a_generation_share_their_data_hyperparameters(case: Case) -> None:
    view, _ = play(case.view, get("mu2net"), case.quality)
    names = [ladder.name for ladder in ladders_of(view.spec.search.hyperparameters).values() if ladder.group == "data"]
    for record in view.history:
        assert len({tuple(plan.hyperparameters[name] for name in names) for plan in record.plan.candidates}) == 1


@given(cases())
def test_a_plan_is_a_pure_function_and_no_order_of_the_view_matters(case: Case) -> None:
    strategy = get(case.view.spec.search.strategy)
    view, finish = play(case.view, strategy, case.quality)
    other = replace(
        case.view,
        routes=tuple(reversed(case.view.routes)),
        users=dict(reversed(list(case.view.users.items()))),
    )
    same, end = play(other, strategy, case.quality)
    assert ([record.plan for record in view.history], finish) == ([record.plan for record in same.history], end)
    assert strategy.next(case.view) == strategy.next(case.view)


@given(cases())
def test_every_plan_passes_the_checks_and_stays_within_the_budget(case: Case) -> None:
    search = case.view.spec.search
    plans = [plan for _, plan, _ in plans_of(case)]
    total = sum(plan.samples for plan in plans if plan.kind == "train")
    assert sum(plan.samples for plan in plans if plan.kind == "probe") <= search.forward_samples
    candidates = search.parameters.get("generations", 1) * search.parameters.get("candidates", 1)
    assert search.samples - candidates * search.batch_size < total <= search.samples


@given(cases())
def test_a_replay_from_the_results_comes_to_the_same_plans(case: Case) -> None:
    strategy = get(case.view.spec.search.strategy)
    view, finish = play(case.view, strategy, case.quality)
    results = [result for record in view.history for result in reversed(record.results)]
    again = replay(case.view, strategy, results)
    assert again.plans == (*(record.plan for record in view.history), finish)


@given(cases(), st.integers(0, 3), st.integers(0, 3))
def test_a_stop_ends_the_search_with_the_best_so_far(case: Case, generations: int, slots: int) -> None:
    strategy = get(case.view.spec.search.strategy)
    full, _ = play(case.view, strategy, case.quality)
    counted = [
        result
        for record in full.history
        for result in record.results
        if (result.generation, result.slot) < (generations, slots)
    ]
    again = replay(case.view, strategy, counted, stop="timeouts.search reached")
    assert again.finish is not None
    if again.finish.winner is not None:
        winner = (again.finish.winner.generation, again.finish.winner.slot)
        assert winner in {(result.generation, result.slot) for result in counted}
        assert "stopped early" in again.finish.reason or len(counted) == sum(len(r.results) for r in full.history)


@given(cases())
def test_the_winner_is_not_below_anything_kept_nor_discarded(case: Case) -> None:
    view, finish = play(case.view, get(case.view.spec.search.strategy), case.quality)
    usable = [result for _, plan, result in candidates(view) if result.usable and plan.kind == "train"]
    if finish.outcome == "none":
        assert view.own is None
        assert not usable
    if finish.winner is not None and view.spec.search.size_decay == 1:
        result = view.result(finish.winner)
        assert result is not None
        assert result.quality == max(item.quality for item in usable)
        assert view.own is None or result.quality > (view.own.summary.quality or 0)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@settings(max_examples=20)
@given(data=st.data())
def test_no_strategy_plans_on_after_a_stop(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    strategy = get(name)
    first = strategy.next(case.view)
    assert isinstance(first, Generation)
    view = replace(advance(case.view, first, case.quality), stop="asked to")
    finish = strategy.next(view)
    assert isinstance(finish, Finish)
    check_plan(view, finish)
