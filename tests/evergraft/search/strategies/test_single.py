"""The baselines: which parent, what becomes of the layers, how they train, how they end."""

from __future__ import annotations

from typing import Any

import pytest

from evergraft.api.resolved import Hyperparameter
from evergraft.errors import ConflictError, SpecError
from evergraft.graph.route import RouteSummary
from evergraft.search.strategies import STRATEGIES, get
from evergraft.search.values import CandidatePlan, Generation
from evergraft.testing.views import made_child, made_layer, made_root, made_route, made_view, play

ROOT = made_root()
FIRST = made_child("a/first", ROOT, clones=["norm"])
SECOND = made_child("b/second", FIRST, clones=["norm"])
THIRD = made_child("c/third", FIRST, clones=["block.00"])
OWN = made_child("t/new", ROOT, clones=["norm"], quality=0.6)
ALL = [ROOT, FIRST, SECOND, THIRD]


def planned(strategy: str, routes: list[RouteSummary], **search: Any) -> CandidatePlan:
    plan = get(strategy).next(made_view(routes, strategy=strategy, **search))
    assert isinstance(plan, Generation)
    assert dict(plan.sampled) == {plan.candidates[0].start: 1}
    (candidate,) = plan.candidates
    return candidate


def actions(plan: CandidatePlan) -> dict[str, str]:
    return {layer.name: layer.action for layer in plan.layers}


def test_the_root_where_nothing_else_is_public() -> None:
    hidden = made_child("a/first", ROOT, clones=["norm"], visibility="Private")
    assert planned("finetune", [ROOT, hidden]).start == ROOT.id


def test_the_longest_chain_and_of_equals_the_newest() -> None:
    # SECOND and THIRD have 200 samples behind them, FIRST 100; THIRD landed last.
    plan = planned("finetune", ALL)
    assert plan.start == THIRD.id
    assert plan.reason == "most training behind its lineage: 200 samples"


def test_a_better_trained_root_does_not_break_the_chain() -> None:
    trained = made_route("root", layers=ROOT.layers, quality=None, lineage_samples=10**6, samples=10**6)
    assert planned("finetune", [trained, FIRST]).start == FIRST.id


def test_the_own_route_goes_before_the_chain() -> None:
    plan = planned("finetune", [*ALL, OWN])
    assert plan.start == OWN.id
    assert actions(plan)["head"] == "clone"
    assert plan.threshold == 0.6


@pytest.mark.parametrize(
    ("parent", "start"), [("newest", OWN), ("root", ROOT), ("a/first", FIRST), ("t/new", OWN)], ids=str
)
def test_the_spec_may_name_the_parent(parent: str, start: RouteSummary) -> None:
    assert planned("finetune", [*ALL, OWN], parameters={"parent": parent}).start == start.id


def test_a_parent_that_is_private_or_unknown() -> None:
    hidden = made_child("z/secret", ROOT, clones=["norm"], visibility="Private")
    for task in ("z/secret", "nobody/here"):
        with pytest.raises(SpecError, match=rf"search\.parameters\.parent: no public route of task '{task}'"):
            planned("finetune", [ROOT, hidden], parameters={"parent": task})


def test_a_graph_without_a_root() -> None:
    with pytest.raises(ConflictError, match="has no root"):
        planned("linear", [])


def test_finetune_clones_everything_and_makes_a_head() -> None:
    assert actions(planned("finetune", [ROOT])) == {
        "patch": "clone",
        "block.00": "clone",
        "block.01": "clone",
        "norm": "clone",
        "head": "new",
    }


def test_lora_changes_blocks_by_rank_and_clones_the_norm() -> None:
    plan = planned("lora", ALL)
    assert actions(plan) == {"patch": "share", "block.00": "share", "block.01": "share", "norm": "clone", "head": "new"}
    deltas = {layer.name: layer.deltas for layer in plan.layers if layer.deltas}
    assert set(deltas) == {"block.00", "block.01"}
    assert all(len(items) == 1 and items[0].kind == "lora" for items in deltas.values())
    assert deltas["block.00"][0].config == {"rank": 8, "targets": ["qkv", "out_proj", "fc1", "fc2"]}
    wide = planned("lora", ALL, parameters={"rank": 16})
    assert wide.layers[1].deltas[0].config["rank"] == 16


def test_lora_needs_encoder_blocks_and_a_rank() -> None:
    resnet = made_route("root", layers=[made_layer("root", "stem", "stem")], quality=None)
    with pytest.raises(SpecError, match=r"search\.strategy: lora changes encoder blocks, and the root has none"):
        planned("lora", [resnet])
    for rank in (0, True, 1.5, "8"):
        with pytest.raises(SpecError, match=r"search\.parameters\.rank"):
            planned("lora", [ROOT], parameters={"rank": rank})


def test_linear_shares_everything() -> None:
    assert set(actions(planned("linear", ALL)).values()) == {"share", "new"}
    assert actions(planned("linear", ALL))["head"] == "new"


def test_the_recipe() -> None:
    plan = planned("finetune", [ROOT], samples=1000, batch_size=32, validations=3)
    assert (plan.samples, plan.schedule.span, plan.schedule.kind) == (992, 992, "cosine")
    assert (plan.validations, plan.optimizer, plan.kind) == (3, "fresh", "train")
    values = plan.hyperparameters
    assert (values["optimizer"], values["learningRate"]) == ("AdamW", 0.001)
    assert (values["weightDecay"], values["warmupRatio"]) == (0.05, 0.05)
    assert (values["crop"], values["flip"]) == (False, False)


def test_the_spec_goes_before_the_defaults() -> None:
    given = (
        Hyperparameter(name="learningRate", start=0.0005, values=(0.0005, 0.5)),
        Hyperparameter(name="flip", start=True),
        Hyperparameter(name="schedule", start="constant"),
    )
    plan = planned("lora", [ROOT], optimizer="SGD", image_size=32, hyperparameters=given)
    assert plan.hyperparameters["learningRate"] == 0.0005
    assert plan.hyperparameters["flip"] is True
    assert plan.hyperparameters["optimizer"] == "SGD"
    assert plan.hyperparameters["imageSize"] == 32
    assert plan.schedule.kind == "constant"


@pytest.mark.parametrize("name", ["finetune", "lora", "linear"])
def test_too_few_samples_name_the_field_and_the_least(name: str) -> None:
    with pytest.raises(
        SpecError, match=r"search\.samples: 127 .*; set at least 128, or lower batchSize or validations"
    ):
        planned(name, [ROOT], samples=127)
    planned(name, [ROOT], samples=128)


@pytest.mark.parametrize(
    ("quality", "outcome"), [(0.61, "commit"), (0.6, "keep"), (0.5, "keep"), (None, "keep")], ids=str
)
def test_the_end_beside_a_present_route(quality: float | None, outcome: str) -> None:
    view = made_view([ROOT, OWN], strategy="finetune")
    _, finish = play(view, get("finetune"), lambda ref, plan: quality)
    assert finish.outcome == outcome


def test_none_where_the_only_child_diverged() -> None:
    _, finish = play(made_view([ROOT], strategy="linear"), get("linear"), lambda ref, plan: None)
    assert finish.outcome == "none"


def test_the_registry() -> None:
    assert {name: strategy.name for name, strategy in STRATEGIES.items()} == {name: name for name in STRATEGIES}
    assert {"mu2net", "finetune", "lora", "linear"} <= set(STRATEGIES)
    with pytest.raises(SpecError, match=r"search\.strategy: unknown strategy 'finetun'; did you mean finetune\?"):
        get("finetun")
