"""The choice of parents, rule by rule, and the standing of this task that it begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evergraft.errors import ConflictError
from evergraft.graph.route import RouteSummary
from evergraft.search.layers import head_plan
from evergraft.search.parents import draw_parents, last_pick, rotated, shuffled, times_sampled
from evergraft.search.starts import decide, route_start, standing
from evergraft.search.strategies import get
from evergraft.search.values import CandidatePlan, Generation, SlotRef, View
from evergraft.testing.views import advance, made_child, made_root, made_view

ROOT = made_root()
OTHERS = [made_child(f"a/{index}", ROOT, clones=["norm"]) for index in range(5)]
OWN = made_child("t/new", ROOT, clones=["block.00", "norm"], quality=0.6)


def view_of(routes: list[RouteSummary], **search: object) -> View:
    search = {"samples": 800, "batch_size": 8, "parameters": {"generations": 2, "candidates": 4}, **search}
    return made_view(routes, **search)  # type: ignore[arg-type]


def after_one(view: View, *qualities: float | None) -> View:
    """The view after a first generation that starts at `view`'s own choice, with these qualities."""
    plan = get("mu2net").next(view)
    assert isinstance(plan, Generation)
    return advance(view, plan, lambda ref, _: qualities[ref.slot])


def starting_from(view: View, *starts: str | SlotRef, threshold: float | None = None) -> View:
    """The view after a generation with these starts, every candidate reaching 0.5."""
    plan = get("mu2net").next(view_of([ROOT]))
    assert isinstance(plan, Generation)
    made = tuple(replace(plan.candidates[0], start=start, threshold=threshold) for start in starts)
    return advance(view, Generation(candidates=made), lambda ref, _: 0.5)


def test_an_own_route_never_sampled_comes_first() -> None:
    for seed in range(20):
        draws = draw_parents(view_of([ROOT, OWN, *OTHERS], seed=seed), generation=0, slots=1)
        assert draws[0].start.ref == OWN.id


def test_counts_rise_as_slots_are_drawn() -> None:
    picks = [draw_parents(view_of([ROOT, OWN], seed=s), generation=0, slots=3) for s in range(400)]
    second = sum(draws[1].start.ref == OWN.id for draws in picks) / len(picks)
    # Own again with 0.5; else the root, never sampled, with certainty.
    assert second == pytest.approx(0.5, abs=0.08)
    # Third, after own and root: own ½, root ½ of the rest, then ¼ shared alike. After own twice: own ¼, else root.
    third = sum(draws[2].start.ref == OWN.id for draws in picks) / len(picks)
    assert third == pytest.approx(0.5 * (0.5 + 0.25 * 0.5) + 0.5 * 0.25, abs=0.08)


def test_without_an_own_route_each_other_is_tried_once_before_any_is_tried_twice() -> None:
    for seed in range(20):
        draws = draw_parents(view_of([ROOT, *OTHERS], seed=seed), generation=0, slots=6)
        assert {draw.start.ref for draw in draws} == {ROOT.id, *(route.id for route in OTHERS)}


def test_the_order_is_shuffled_once_for_the_whole_search() -> None:
    view = view_of([ROOT, *OTHERS], seed=3)
    order = [start.ref for start in shuffled(view)]
    assert order != [route.id for route in [*OTHERS, ROOT]]
    draws = draw_parents(view, generation=0, slots=6)
    assert [draw.start.ref for draw in draws] == order
    assert [start.ref for start in shuffled(after_one(view, *[0.1] * 4))] == order


def test_every_order_is_as_likely_as_another() -> None:
    first = [shuffled(view_of([ROOT, *OTHERS[:2]], seed=seed))[0].ref for seed in range(600)]
    for route in (ROOT, *OTHERS[:2]):
        assert first.count(route.id) == pytest.approx(200, abs=45)


def test_the_order_begins_behind_the_last_pick_also_in_later_generations() -> None:
    view = view_of([ROOT, *OTHERS])
    order = shuffled(view)
    view = starting_from(view, str(order[2].ref), SlotRef(0, 0))
    assert last_pick(view) == order[2].ref
    assert rotated(order, last_pick(view)) == (*order[3:], *order[:3])


def test_a_pick_of_this_task_does_not_rotate_the_order() -> None:
    view = starting_from(view_of([ROOT, OWN, *OTHERS]), OWN.id)
    assert last_pick(view) is None
    assert rotated(shuffled(view), OWN.id) == shuffled(view)


def test_counts_cover_earlier_searches_and_candidates() -> None:
    view = replace(view_of([ROOT, OWN]), routes=made_view([ROOT, OWN], sampled={ROOT.id: 3}).routes)
    view = starting_from(view, ROOT.id, OWN.id, ROOT.id)
    view = starting_from(view, SlotRef(0, 1))
    assert times_sampled(view)[ROOT.id] == 5
    assert times_sampled(view)[OWN.id] == 1
    assert times_sampled(view)[SlotRef(0, 1)] == 1


def test_much_sampled_parents_are_drawn_alike() -> None:
    view = made_view([ROOT, OWN, *OTHERS[:1]], sampled={ROOT.id: 60, OWN.id: 60, OTHERS[0].id: 60}, samples=800)
    picks = [
        draw_parents(replace(view, spec=view_of([], seed=seed).spec), generation=0, slots=1)[0] for seed in range(600)
    ]
    assert all("passed over" in draw.reason for draw in picks)
    for route in (ROOT, OWN, OTHERS[0]):
        assert sum(draw.start.ref == route.id for draw in picks) == pytest.approx(200, abs=45)


def test_a_graph_without_routes_names_itself() -> None:
    with pytest.raises(ConflictError, match="version 0 has no route"):
        draw_parents(view_of([]), generation=0, slots=1)


def test_standing_is_by_score_with_ties_to_the_earlier() -> None:
    view = after_one(view_of([ROOT, OWN]), 0.7, 0.6, 0.7, 0.5)
    refs = [start.ref for start in standing(view)]
    # The first slot's parent is the own route (0.6), so only what is not below it is kept; own came before 0-1.
    assert refs[:2] == [SlotRef(0, 0), SlotRef(0, 2)]
    assert refs.index(OWN.id) < refs.index(SlotRef(0, 1))


def test_a_child_below_its_same_task_parent_is_discarded_an_equal_one_is_kept() -> None:
    view = starting_from(view_of([ROOT, OWN]), OWN.id, threshold=0.5)
    assert SlotRef(0, 0) in {start.ref for start in standing(view)}
    view = starting_from(view_of([ROOT, OWN]), OWN.id, threshold=0.500001)
    assert SlotRef(0, 0) not in {start.ref for start in standing(view)}


def test_a_diverged_candidate_does_not_stand() -> None:
    view = after_one(view_of([ROOT]), None, None, 0.1, None)
    assert [start.ref for start in standing(view)] == [SlotRef(0, 2)]


def test_the_present_route_is_kept_when_nothing_beats_it() -> None:
    view = after_one(view_of([ROOT, OWN]), 0.6, 0.5, None, 0.6)
    assert decide(view).outcome == "keep"


def test_none_if_nothing_can_be_used() -> None:
    view = after_one(view_of([ROOT]), None, None, None, None)
    assert decide(view).outcome == "none"


def _head(view: View, route: RouteSummary) -> tuple[str, str | None]:
    plan = head_plan(view, route_start(view, route))
    return plan.action, plan.source


def test_the_head_comes_from_the_nearest_ancestor_of_this_task() -> None:
    grown = made_child("b/grown", OWN, clones=["norm"])
    further = made_child("c/further", grown, clones=["norm"])
    view = view_of([ROOT, OWN, grown, further, OTHERS[0]])
    assert _head(view, OWN) == ("clone", None)
    assert _head(view, grown) == ("clone", OWN.id)
    assert _head(view, further) == ("clone", OWN.id)
    assert _head(view, OTHERS[0]) == ("new", None)
    assert _head(view, ROOT) == ("new", None)


def test_an_ancestor_that_was_replaced_is_out_of_sight() -> None:
    grown = made_child("b/grown", made_child("t/new", ROOT, clones=["block.01"]), clones=["norm"])
    assert _head(view_of([ROOT, OWN, grown]), grown) == ("new", None)


def test_candidates_start_from_kept_ones_with_their_own_head() -> None:
    view = after_one(view_of([ROOT]), 0.9, 0.1, 0.1, 0.1)
    plan = get("mu2net").next(view)
    assert isinstance(plan, Generation)
    child: CandidatePlan = plan.candidates[0]
    assert child.start == SlotRef(0, 0)
    assert child.layers[-1].name == "head"
    assert (child.layers[-1].action, child.layers[-1].source) == ("clone", None)
    assert child.optimizer == "carry"
