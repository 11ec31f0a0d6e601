"""mu2net beside its transcript: parameters, inheritance, the optional ladders, own layers, the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evergraft.api.resolved import Hyperparameter
from evergraft.errors import SpecError
from evergraft.graph.route import Delta, RouteSummary
from evergraft.search.strategies import get
from evergraft.search.values import CandidatePlan, Finish, Generation
from evergraft.testing.views import made_child, made_id, made_root, made_view, play

ROOT = made_root(blocks=4, position=True)
NEVER = Hyperparameter(name="mutationRate", start=0.0, values=(0.0,))
ALWAYS = Hyperparameter(name="mutationRate", start=1.0, values=(1.0,))
SMALL = {"generations": 2, "candidates": 3}


def own(**fields: Any) -> RouteSummary:
    return made_child("t/new", ROOT, clones=["block.01", "norm"], quality=0.6, **fields)


def first(routes: list[RouteSummary], *given: Hyperparameter, **search: Any) -> CandidatePlan:
    view = made_view(routes, hyperparameters=given, **{"parameters": SMALL, **search})
    plan = get("mu2net").next(view)
    assert isinstance(plan, Generation)
    return plan.candidates[0]


def actions(plan: CandidatePlan) -> dict[str, str]:
    return {layer.name: layer.action for layer in plan.layers}


def test_the_defaults_divide_the_samples_by_32() -> None:
    view, _ = play(made_view([ROOT]), get("mu2net"), lambda ref, plan: 0.5)
    assert [len(record.plan.candidates) for record in view.history] == [8, 8, 8, 8]
    assert {plan.samples for record in view.history for plan in record.plan.candidates} == {640}


def test_under_one_batch_a_validation_names_the_samples() -> None:
    message = r"search\.samples: 4095 samples leave 96 for each of 32 .* set at least 4096"
    with pytest.raises(SpecError, match=message):
        get("mu2net").next(made_view([ROOT], samples=4095))
    get("mu2net").next(made_view([ROOT], samples=4096))


@pytest.mark.parametrize("name", ["generations", "candidates"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "2", None])
def test_parameters_are_positive_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(SpecError, match=rf"search\.parameters\.{name}: .* is no whole number from 1 up"):
        get("mu2net").next(made_view([ROOT], parameters={name: value}))


def test_without_mutation_only_own_layers_the_norm_and_the_head_train() -> None:
    plan = first([ROOT, own()], NEVER)
    cloned = {name for name, action in actions(plan).items() if action == "clone"}
    assert cloned == {"block.01", "norm", "head"}


def test_a_layer_that_another_task_builds_on_is_no_longer_ones_own() -> None:
    mine = own()
    other = made_child("b/other", mine, clones=["norm"])
    plan = first([ROOT, mine, other], NEVER)
    assert plan.start == mine.id
    assert actions(plan)["block.01"] == "share"


def test_a_shared_layer_with_an_own_delta_is_ones_own() -> None:
    mine = own()
    delta = Delta(kind="lora", module=made_id("mine"), parameters=8)
    layers = tuple(replace(layer, deltas=(delta,)) if layer.name == "block.00" else layer for layer in mine.layers)
    plan = first([ROOT, replace(mine, layers=layers)], NEVER)
    assert plan.start == mine.id
    assert actions(plan)["block.00"] == "clone"


def test_with_certain_mutation_everything_is_cloned_and_every_hyperparameter_steps() -> None:
    plan = first([ROOT], ALWAYS)
    assert set(actions(plan).values()) == {"clone", "new"}
    assert plan.hyperparameters["learningRate"] in (0.005, 0.02)
    assert plan.hyperparameters["momentum"] in (0.85, 0.95)
    assert plan.hyperparameters["cropMinArea"] in (0.02, 0.1)


def test_the_mutation_rate_steps_first_and_the_rest_steps_by_the_new_one() -> None:
    rate = Hyperparameter(name="mutationRate", start=1.0, values=(0.0, 1.0))
    plans = [first([ROOT], rate, seed=seed) for seed in range(12)]
    assert {plan.hyperparameters["mutationRate"] for plan in plans} == {0.0, 1.0}
    for plan in plans:
        stepped = plan.hyperparameters["mutationRate"] == 1.0
        assert (plan.hyperparameters["learningRate"] != 0.01) == stepped
        assert (actions(plan)["block.00"] == "clone") == stepped


def test_a_parent_of_the_same_optimiser_hands_on_its_values() -> None:
    tuned = {"optimizer": "SGD", "learningRate": 0.2, "momentum": 0.5, "mutationRate": 0.0, "schedule": "restarts"}
    plan = first([ROOT, own(hyperparameters=tuned)], NEVER)
    assert (plan.hyperparameters["learningRate"], plan.hyperparameters["momentum"]) == (0.2, 0.5)
    assert plan.schedule.kind == "restarts"
    assert plan.optimizer == "carry"


def test_a_parent_of_another_optimiser_hands_on_no_value_of_it() -> None:
    tuned = {"optimizer": "AdamW", "learningRate": 0.001, "weightDecay": 0.05, "cropMinArea": 0.5}
    plan = first([ROOT, own(hyperparameters=tuned)], NEVER)
    assert plan.hyperparameters["learningRate"] == 0.01
    assert "weightDecay" not in plan.hyperparameters
    assert plan.hyperparameters["cropMinArea"] == 0.5


def test_data_hyperparameters_come_from_this_tasks_route_also_for_children_of_others() -> None:
    tuned = {"optimizer": "SGD", "cropMinArea": 0.5, "flip": False}
    view = made_view([ROOT, own(hyperparameters=tuned)], hyperparameters=(NEVER,), parameters=SMALL)
    plan = get("mu2net").next(view)
    assert isinstance(plan, Generation)
    assert any(candidate.start == ROOT.id for candidate in plan.candidates)
    assert all(candidate.hyperparameters["cropMinArea"] == 0.5 for candidate in plan.candidates)


def test_fewer_layers_drop_the_last_blocks() -> None:
    plan = first([ROOT], NEVER, Hyperparameter(name="numLayers", start=2, values=(2, 4)))
    blocks = {name: action for name, action in actions(plan).items() if name.startswith("block")}
    assert blocks == {"block.00": "share", "block.01": "share", "block.02": "drop", "block.03": "drop"}
    deep = first([ROOT], NEVER, Hyperparameter(name="numLayers", start=9, values=(9,)))
    assert "drop" not in actions(deep).values()


def test_adapters_go_on_blocks_that_stay_frozen() -> None:
    half = Hyperparameter(name="mutationRate", start=0.5, values=(0.5,))
    width = Hyperparameter(name="adapterWidth", start=16, values=(16,))
    plans = [first([ROOT], half, width, seed=seed) for seed in range(20)]
    adapted = [layer for plan in plans for layer in plan.layers if layer.deltas]
    assert adapted
    assert all(layer.action == "share" and layer.name.startswith("block") for layer in adapted)
    assert all(layer.deltas[0].kind == "adapter" and layer.deltas[0].config == {"width": 16} for layer in adapted)
    assert not any(layer.deltas for layer in first([ROOT], half).layers)


def test_another_image_size_trains_the_position_embedding() -> None:
    size = Hyperparameter(name="imageSize", start=32, values=(32,))
    assert actions(first([ROOT], NEVER, size))["position"] == "clone"
    assert actions(first([ROOT], NEVER, image_size=32))["position"] == "clone"
    same = made_child("a/same", ROOT, clones=["position", "norm"], hyperparameters={"imageSize": 32})
    users = made_child("b/user", same, clones=["norm"], hyperparameters={"imageSize": 32})
    plan = first([same, users], NEVER, size)
    assert actions(plan)["position"] == "share"
    assert actions(first([ROOT], NEVER))["position"] == "share"


def test_a_route_that_nothing_beats_is_kept_and_ties_keep_it_too() -> None:
    for quality in (0.1, 0.6, None):
        _, finish = play(made_view([ROOT, own()], parameters=SMALL), get("mu2net"), lambda ref, plan, q=quality: q)  # type: ignore[misc]
        assert isinstance(finish, Finish)
        assert finish.outcome == "keep"


def test_mutations_are_told_in_words() -> None:
    tuned = {"optimizer": "SGD", "learningRate": 0.5}
    given = Hyperparameter(name="learningRate", start=0.5, values=(0.2, 0.5))
    told = {
        text
        for seed in range(10)
        for text in first([ROOT, own(hyperparameters=tuned)], ALWAYS, given, seed=seed).mutations
    }
    assert {"learningRate 0.5 → 0.2", "clone block.00", "clone head"} <= told
