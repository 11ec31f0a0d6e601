"""The transfer ledger from values: where its figures come from, what is measured for it, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evergraft.graph.route import RouteSummary
from evergraft.graph.transfer import Measured, Transfer
from evergraft.search import ledger
from evergraft.search.ledger import Looked
from evergraft.search.strategies import STRATEGIES
from evergraft.search.validate import check_generation
from evergraft.search.values import CandidatePlan, Generation, LayerPlan, SlotRef, View
from evergraft.testing.views import advance, made_child, made_result, made_root, made_view, play

ROOT = made_root()
CHAIN = made_child("t/chain", ROOT, clones=["norm"], lineage_samples=5000)
MANIFEST: dict[str, Any] = {"labels": ["0", "1"], "counts": {"train": {"0": 500, "1": 500}}}


def view_of(*routes: RouteSummary, **search: Any) -> View:
    settings: dict[str, Any] = {"strategy": "finetune", "samples": 20_480, "forward_samples": 20_480, **search}
    return made_view([ROOT, *routes], **settings)


def known(view: View, manifest: Any = None) -> Transfer:
    return ledger.known_of(view, basis=ledger.basis_of(view, manifest or MANIFEST))


def played(view: View, quality: float = 0.8) -> View:
    return play(
        view, STRATEGIES[view.spec.search.strategy], lambda _ref, plan: quality if plan.kind == "train" else 0.5
    )[0]


def own_with(view: View, transfer: Transfer | None) -> View:
    """The view of a task that has a route already, with what that one knew."""
    own = replace(made_child("t/new", CHAIN, clones=["norm"]), transfer=transfer)
    return made_view([ROOT, CHAIN, own], **{name: getattr(view.spec.search, name) for name in SEARCH})


SEARCH = ("strategy", "samples", "forward_samples")


def test_a_child_of_the_chain_knows_nothing_and_asks_for_one_probe_of_the_root() -> None:
    view = played(view_of(CHAIN))
    assert known(view).is_empty
    plan = ledger.probe_plan(view, known(view))
    assert plan is not None
    assert (plan.kind, plan.start, plan.samples) == ("probe", ROOT.id, 1024)  # 1,000 images in whole batches
    assert [item.action for item in plan.layers] == ["share"] * len(ROOT.layers) + ["new"]
    assert plan.layers[-1].init == "lda"
    check_generation(replace(view, history=()), Generation(candidates=(plan,)))


def test_what_graft_looked_at_is_not_measured_again() -> None:
    view = played(view_of(CHAIN, strategy="graft"))
    assert known(view).linear_probe == Measured(0.5, samples=1000)
    assert ledger.probe_plan(view, known(view)) is None
    # What a trainer says it has measured all the same does not count.
    assert ledger.completed(view, known(view), Looked(Measured(0.9, 8), 16)) == (known(view), 0)


def test_a_probe_of_another_route_is_no_linear_probe() -> None:
    view = played(view_of(CHAIN, strategy="graft"))
    record = view.history[0]
    of_chain = [plan for plan in record.plan.candidates if plan.start == CHAIN.id]
    assert len(of_chain) == 1
    first = replace(record, plan=Generation(tuple(of_chain)), results=record.results[:1])
    assert known(replace(view, history=(first,))).linear_probe is None


@pytest.mark.parametrize("strategy", ["finetune", "graft"])
def test_a_child_of_the_root_that_is_trained_whole_is_fine_tuning(strategy: str) -> None:
    wide = {"parameters": {"wide": True}} if strategy == "graft" else {}
    view = played(view_of(strategy=strategy, samples=1024, **wide), quality=0.7)
    assert known(view).fine_tuned == Measured(0.7, samples=1024)


@pytest.mark.parametrize(
    ("strategy", "routes"), [("finetune", (CHAIN,)), ("lora", ()), ("linear", ()), ("graft", ())], ids=str
)
def test_a_child_of_another_task_or_one_trained_in_part_is_not(strategy: str, routes: tuple[RouteSummary, ...]) -> None:
    assert known(played(view_of(*routes, strategy=strategy, samples=1024))).fine_tuned is None


def test_the_best_of_several_counts_with_all_that_it_continues() -> None:
    view = view_of(samples=1024)
    first = STRATEGIES["finetune"].next(view)
    assert isinstance(first, Generation)
    view = advance(view, first, lambda *_: 0.6)
    (plan,) = first.candidates
    clones = tuple(replace(item, action="clone") for item in plan.layers)
    going_on: CandidatePlan = replace(plan, start=SlotRef(0, 0), layers=clones)
    in_part = replace(going_on, layers=(LayerPlan(name=clones[0].name, action="share"), *clones[1:]))
    # The second trains on in part and is none; the third diverges; what the fourth reaches counts.
    again = Generation(candidates=(going_on, in_part, going_on, going_on))
    qualities = {0: 0.65, 1: 0.9, 2: None, 3: 0.7}
    view = advance(view, again, lambda ref, _: qualities[ref.slot])
    assert known(view).fine_tuned == Measured(0.7, samples=2048)


def test_an_earlier_route_of_the_task_keeps_what_it_knew() -> None:
    view = view_of(CHAIN)
    kept = Transfer(
        ledger.basis_of(view, MANIFEST), linear_probe=Measured(0.4, 1000), fine_tuned=Measured(0.75, 20_480)
    )
    again = played(own_with(view, kept), quality=0.9)
    assert known(again) == kept
    assert ledger.probe_plan(again, known(again)) is None


def test_figures_of_other_data_another_metric_or_another_root_are_worth_nothing() -> None:
    view = view_of(CHAIN)
    kept = Transfer(ledger.basis_of(view, MANIFEST), linear_probe=Measured(0.4, 1000))
    again = own_with(view, kept)
    assert not known(again).is_empty
    assert known(again, {**MANIFEST, "counts": {"train": {"0": 500, "1": 501}}}).is_empty
    assert known(replace(again, spec=replace(again.spec, metric="Top5"))).is_empty
    sized = replace(again.spec, search=replace(again.spec.search, image_size=16))
    assert known(replace(again, spec=sized)).is_empty
    assert ledger.basis_of(view, {**MANIFEST, "writeId": "x"}) == kept.basis


@pytest.mark.parametrize(
    ("search", "images"),
    [
        ({"samples": 20_480}, 1024),  # all
        ({"samples": 4096}, 512),  # an eighth
        ({"samples": 4096, "forward_samples": 100}, 96),  # what is left, in whole batches
        ({"samples": 20_480, "forward_samples": 0}, None),
        ({"samples": 224, "batch_size": 32}, None),  # no batch
        ({"samples": 16, "batch_size": 2}, None),  # two images of two classes would be noise
    ],
)
def test_a_probe_is_bounded(search: dict[str, Any], images: int | None) -> None:
    view = view_of(CHAIN, **search)
    plan = ledger.probe_plan(view, known(view))
    assert (plan and plan.samples) == images


def test_large_data_is_not_read_whole() -> None:
    view = view_of(CHAIN, samples=1 << 20, forward_samples=1 << 20)
    view = replace(view, facts=replace(view.facts, train_samples=1 << 18))
    plan = ledger.probe_plan(view, known(view))
    assert plan is not None
    assert plan.samples == ledger.MOST_IMAGES


def test_nothing_is_measured_once_time_is_up_or_without_a_root() -> None:
    view = view_of(CHAIN)
    assert ledger.probe_plan(replace(view, stop="time is up"), known(view)) is None
    rootless = replace(view, routes=tuple(route for route in view.routes if not route.summary.is_root))
    assert ledger.probe_plan(rootless, known(rootless)) is None


def test_the_document_says_by_how_much_and_what_it_cost() -> None:
    view = played(view_of(CHAIN))
    looked = Looked(Measured(0.85, samples=1000), forward_samples=1100)
    full, spent = ledger.completed(view, known(view), looked)
    told = ledger.to_json(full, quality=0.8, forward_samples=spent)
    assert told["linearProbe"] == {"quality": 0.85, "samples": 1000, "over": -0.05}
    assert (told["forwardSamples"], "fineTuned" in told) == (1100, False)
    assert ledger.looked_in(told) == looked
    assert ledger.looked_in({"basis": "x", "linearProbe": {}}) is None
    assert ledger.looked_in(None) is None


@pytest.mark.parametrize("wrong", [{"quality": 1.5, "samples": 1}, {"quality": 0.5, "samples": -1}, {"quality": None}])
def test_a_damaged_figure_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Transfer.from_json({"basis": "x", "linearProbe": wrong})


def test_a_failed_probe_tells_nothing() -> None:
    view = view_of(CHAIN, strategy="graft")
    first = STRATEGIES["graft"].next(view)
    assert isinstance(first, Generation)
    view = advance(view, first, lambda ref, _: None if ref.slot == 1 else 0.5)
    assert made_result(view, SlotRef(0, 1), first.candidates[1], None).diverged is not None
    assert known(view).linear_probe is None
