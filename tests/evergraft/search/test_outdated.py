"""A task learned again on other data: its earlier score is no bar, its route may be a parent, the best is committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from evergraft import canonical
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.search import ledger
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import Answers, Outcome, run_search
from evergraft.search.events import silent
from evergraft.search.groups import Claimed
from evergraft.search.replayed import replay_search
from evergraft.search.starts import OUTDATED, decide, family, standing
from evergraft.search.strategies import STRATEGIES, get
from evergraft.search.values import Generation, SlotRef, SlotResult, TaskFacts, View
from evergraft.store import blobs, log
from evergraft.store.memory import MemoryStore
from evergraft.testing.arithmetic import LABELS, ArithmeticTrainer, init_graph, make_request
from evergraft.testing.views import advance, made_child, made_root, made_view, play

ROOT = made_root()
OWN = made_child("t/new", ROOT, clones=["block.00", "norm"], quality=0.9, basis="of two classes")
SETTINGS: dict[str, Any] = {"samples": 800, "forward_samples": 4096, "batch_size": 8}
SMALL = {"mu2net": {"generations": 2, "candidates": 2}}


def view_of(strategy: str, *, basis: str | None, own: RouteSummary = OWN) -> View:
    parameters = SMALL.get(strategy, {})
    return replace(made_view([ROOT, own], strategy=strategy, parameters=parameters, **SETTINGS), basis=basis)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_worse_candidate_is_committed_where_the_earlier_score_is_of_other_data(strategy: str) -> None:
    view, finish = play(view_of(strategy, basis="of five classes"), get(strategy), lambda ref, plan: 0.5)
    first = view.history[0].plan.candidates[0]
    assert (first.start, first.threshold) == (OWN.id, None)
    assert first.layers[-1].action == "clone"  # of the labels that are still there, the head keeps what it knows
    assert finish.outcome == "commit"
    assert finish.reason.endswith(OUTDATED)


@pytest.mark.parametrize(("basis", "own"), [(OWN.basis, OWN), (None, OWN), ("other", replace(OWN, basis=None))])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_same_data_or_data_that_nobody_knows_leaves_the_bar(
    strategy: str, basis: str | None, own: RouteSummary
) -> None:
    view, finish = play(view_of(strategy, basis=basis, own=own), get(strategy), lambda ref, plan: 0.5)
    assert view.history[0].plan.candidates[0].threshold == 0.9
    assert (finish.outcome, finish.reason) == ("keep", "no candidate beat the present route (0.9000)")


def test_it_stands_no_longer_and_is_the_last_of_its_family() -> None:
    view = view_of("mu2net", basis="of five classes")
    assert [start.ref for start in family(view)] == [OWN.id]
    plan = get("mu2net").next(view)
    assert isinstance(plan, Generation)
    assert "its score is of other data" in plan.candidates[0].reason
    view = advance(view, plan, lambda ref, _: 0.1)
    assert [start.ref for start in standing(view)] == [SlotRef(0, 0), SlotRef(0, 1)]
    assert [start.ref for start in family(view)] == [SlotRef(0, 0), SlotRef(0, 1), OWN.id]


def test_mu2net_still_takes_over_what_the_route_was_trained_with() -> None:
    own = replace(OWN, hyperparameters={"optimizer": "SGD", "learningRate": 0.2, "crop": False, "mutationRate": 0.1})
    plans = []
    for basis in ("of two classes", "of five classes"):
        plan = get("mu2net").next(view_of("mu2net", basis=basis, own=own))
        assert isinstance(plan, Generation)
        plans.append([candidate.hyperparameters for candidate in plan.candidates])
    assert plans[0] == plans[1]


def test_where_no_candidate_can_be_used_the_route_goes_on_serving() -> None:
    view = view_of("finetune", basis="of five classes")
    plan = get("finetune").next(view)
    assert isinstance(plan, Generation)
    finish = decide(advance(view, plan, lambda ref, _: None))
    assert (finish.outcome, finish.winner) == ("keep", None)
    assert finish.reason == f"no candidate could be used, so the present route stays; {OUTDATED}"


def test_other_bytes_labels_and_metrics_are_another_basis_and_another_address_is_not() -> None:
    view = made_view([ROOT])
    told = {"name": "a.png", "size": 7, "sha256": "0" * 64}
    data: dict[str, Any] = {"url": "gs://one", "labels": ["0", "1"], "objects": [{**told, "generation": "17"}]}

    def basis(manifest: Mapping[str, Any], view: View = view) -> str:
        return ledger.basis_of(view, ledger.without_versions(manifest))

    assert basis({**data, "url": "s3://two", "objects": [{**told, "etag": "x"}]}) == basis(data)
    others = [
        basis({**data, "labels": ["0", "1", "2"]}),
        basis({**data, "objects": [{**told, "sha256": "1" * 64}]}),
        basis({**data, "samples": {"validation": [["a.png", 1]]}}),
        basis(data, replace(view, spec=replace(view.spec, metric="MacroF1"))),
        basis(data, replace(view, spec=replace(view.spec, search=replace(view.spec.search, image_size=8)))),
    ]
    assert len({basis(data), *others}) == 1 + len(others)


@dataclass
class Reaching(ArithmeticTrainer):
    """Reaches the quality it is told, on data of the labels it is told."""

    quality: float = 0.5
    labels: tuple[str, ...] = field(default=LABELS)

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        counts = {split: dict.fromkeys(self.labels, 10) for split in ("train", "validation")}
        facts = TaskFacts(self.labels, 10 * len(self.labels), 10 * len(self.labels))
        return facts, pinned or {"labels": list(self.labels), "counts": counts}

    def train(self, group: Any) -> Iterator[SlotResult]:
        claimed: list[Claimed] = list(group)
        for result in super().train(claimed):
            yield replace(result, quality=self.quality)

    def conclude(self, ref: SlotRef, result: SlotResult) -> Answers:
        return replace(super().conclude(ref, result), labels=self.labels)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    fresh = MemoryStore(request.node.name)
    init_graph(fresh)
    return fresh


def learn(store: MemoryStore, iteration: int, quality: float, *labels: str, metric: str = "Accuracy") -> Outcome:
    asked = make_request("a/one", iteration=iteration)
    spec = replace(asked.spec, metric=metric)
    asked = replace(asked, spec=spec, spec_hash=canonical.digest(spec.to_json()))
    outcome, graph = run_search(
        store,
        log.read_graph(store),
        request=asked,
        make_trainer=lambda folder, spec: Reaching(folder, spec, quality=quality, labels=labels),
        emit=silent,
        crew=Crew(timing=Timing(dead_s=0.0, first_poll_s=0.001)),
    )
    assert replay_search(store, asked.search).differences == ()
    assert outcome.route == serving(graph)
    return outcome


def serving(graph: Graph) -> RouteSummary:
    state = graph.task("a/one")
    assert state is not None
    assert state.route is not None
    return state.route


def test_a_class_that_is_added_is_committed_and_from_then_on_the_bar(store: MemoryStore) -> None:
    learn(store, 1, 0.9875, "no", "yes")
    assert learn(store, 2, 0.9, "no", "yes").kind == "kept"
    wider = learn(store, 3, 0.6, "no", "yes", "perhaps")
    assert wider.kind == "committed"
    assert wider.reason == f"candidate 0-0 scored best (0.6000); {OUTDATED}"
    assert wider.route is not None
    document = blobs.get_route(store, wider.route.id)
    assert document.transfer["reason"] == f"this task's own route; {OUTDATED}"
    assert learn(store, 4, 0.5, "no", "yes", "perhaps").kind == "kept"
    assert learn(store, 5, 0.7, "no", "yes", "perhaps").reason == "candidate 0-0 scored best (0.7000)"


def test_another_metric_is_another_measure(store: MemoryStore) -> None:
    learn(store, 1, 0.9, "no", "yes")
    assert learn(store, 2, 0.4, "no", "yes", metric="MacroF1").kind == "committed"


def test_what_a_route_was_measured_on_outlives_a_restart(store: MemoryStore) -> None:
    learn(store, 1, 0.9, "no", "yes")
    kept = serving(log.read_graph(store)).basis
    assert kept is not None
    assert RouteSummary.from_json(serving(log.read_graph(store)).to_json()).basis == kept
