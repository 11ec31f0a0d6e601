"""Plans as JSON and their replay: what is recorded reads back, and a difference is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evergraft import canonical
from evergraft.errors import IntegrityError
from evergraft.search.codec import from_json, to_json
from evergraft.search.replay import differences, replay
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


def test_a_replay_of_other_results_tells_where_it_differs() -> None:
    view, finish = play(VIEW, get("mu2net"), quality)
    recorded: tuple[Generation | Finish, ...] = (*(record.plan for record in view.history), finish)
    other, _ = play(VIEW, get("mu2net"), lambda ref, _: 0.9 - quality(ref, None))
    results = [result for record in other.history for result in record.results]
    found = differences(recorded, replay(VIEW, get("mu2net"), results).plans)
    assert found == ("step 1: the replay plans differently", "step 2: the replay plans differently")
    assert differences(recorded, recorded[:1]) == ("3 steps are recorded, the replay has 1",)
