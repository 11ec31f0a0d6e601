"""Plans as JSON and their replay: what is recorded reads back, and a difference is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evergraft import canonical
from evergraft.errors import IntegrityError
from evergraft.search.codec import from_json, to_json
from evergraft.search.replay import difference, replay
from evergraft.search.strategies import get
from evergraft.search.values import DeltaPlan, Finish, Generation, LayerPlan, SlotRef
from evergraft.testing.views import made_child, made_root, made_view, play

ROOT = made_root()
VIEW = made_view([ROOT, made_child("t/new", ROOT, clones=["norm"])], parameters={"generations": 2, "candidates": 2})


def quality(ref: SlotRef, _plan: object) -> float:
    return 0.5 + ref.generation / 10 + ref.slot / 100


def test_plans_read_back_from_their_bytes() -> None:
    view, finish = play(VIEW, get("mu2net"), quality)
    generation = view.history[1].plan
    assert isinstance(generation.candidates[0].start, SlotRef)
    for plan in (generation, finish, Finish("keep", reason="it stands")):
        assert from_json(json.loads(canonical.dumps(to_json(plan)))) == plan


def test_everything_a_layer_may_say_reads_back() -> None:
    view, _ = play(VIEW, get("mu2net"), quality)
    layers = (
        LayerPlan("a", "new", kind="norm", config={"width": 4}),
        LayerPlan("b", "share", deltas=(DeltaPlan("lora", {"rank": 2}),)),
        LayerPlan("head", "clone", source=ROOT.id),
    )
    plan = replace(view.history[0].plan.candidates[0], layers=layers, kind="probe", state="last", optimizer="carry")
    generation = Generation(candidates=(plan,), sampled={ROOT.id: 2})
    assert from_json(to_json(generation)) == generation


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("type"),
        lambda value: value.pop("candidates"),
        lambda value: value["candidates"][0].update(kind="dream"),
        lambda value: value["candidates"][0].pop("samples"),
        lambda value: value["candidates"][0]["layers"][0].update(action="eval"),
        lambda value: value["candidates"][0].update(start={"generation": 0}),
        lambda value: value.update(sampled=[1]),
    ],
)
def test_a_damaged_plan_is_refused(change: Any) -> None:
    view, _ = play(VIEW, get("mu2net"), quality)
    value = to_json(view.history[0].plan)
    change(value)
    with pytest.raises(IntegrityError, match="plan: missing or wrong field"):
        from_json(value)


def test_a_replay_stops_where_results_are_missing() -> None:
    view, finish = play(VIEW, get("mu2net"), quality)
    results = [result for record in view.history for result in record.results]
    again = replay(VIEW, get("mu2net"), results[:3])
    assert again.finish is None
    assert again.plans == tuple(record.plan for record in view.history)
    assert replay(VIEW, get("mu2net"), results).finish == finish


def test_a_replay_starts_over_whatever_the_view_already_knows() -> None:
    view, finish = play(VIEW, get("mu2net"), quality)
    results = [result for record in view.history for result in record.results]
    assert replay(replace(view, stop="late"), get("mu2net"), results).plans == (
        *(record.plan for record in view.history),
        finish,
    )


def test_a_replay_of_other_results_plans_otherwise() -> None:
    view, _ = play(VIEW, get("mu2net"), quality)
    other, _ = play(VIEW, get("mu2net"), lambda ref, _: 0.9 - quality(ref, None))
    results = [result for record in other.history for result in record.results]
    again = replay(VIEW, get("mu2net"), results).plans
    same = [
        difference(to_json(record.plan), to_json(plan), "plan")
        for record, plan in zip(view.history, again[:2], strict=True)
    ]
    assert same[0] is None
    assert same[1] is not None


@pytest.mark.parametrize(
    ("recorded", "replayed", "told"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, None),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "at.a[1].b: 2 recorded, 3 replayed"),
        ({"a": 1}, {}, "at.a: recorded, but not replayed"),
        ({}, {"a": 1}, "at.a: not recorded"),
        ([1], [1, 2], "at: 1 recorded, 2 replayed"),
        (1, 1.0, "at: 1 recorded, 1.0 replayed"),
        (True, 1, "at: true recorded, 1 replayed"),
        (None, [], "at: null recorded, [] replayed"),
        ("x" * 99, "", f'at: "{"x" * 59}… recorded, "" replayed'),
    ],
)
def test_a_difference_is_named_by_its_place(recorded: Any, replayed: Any, told: str | None) -> None:
    assert difference(recorded, replayed, "at") == told


def test_a_crash_ends_a_replay_unless_it_may_be_discarded() -> None:
    view, _ = play(VIEW, get("mu2net"), quality)
    results = [replace(view.history[0].results[0], failed="it died"), view.history[0].results[1]]
    ended = replay(VIEW, get("mu2net"), results)
    assert (ended.crash, ended.finish, len(ended.plans)) == ("CandidateCrashes: it died", None, 1)
    patient = replace(VIEW, spec=replace(VIEW.spec, search=replace(VIEW.spec.search, failed_candidates="Discard")))
    assert (replay(patient, get("mu2net"), results).crash, len(replay(patient, get("mu2net"), results).plans)) == (
        None,
        2,
    )
