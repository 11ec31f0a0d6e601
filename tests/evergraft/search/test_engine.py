"""The engine over a real store in memory, with arithmetic for training: one commit or none, whatever happens."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from evergraft import canonical, names
from evergraft.errors import (
    ConflictError,
    DataError,
    EvergraftError,
    IntegrityError,
    SpecError,
    StoreUnavailableError,
    UserError,
)
from evergraft.graph.route import RouteSummary
from evergraft.graph.state import Graph
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import Outcome, Request, run_search
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.values import Generation, SlotRef, TaskFacts
from evergraft.store import blobs, log
from evergraft.store.memory import MemoryStore
from evergraft.store.seam import Created, Entry, Store
from evergraft.store.searches import MAX_BYTES
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

MU2NET: dict[str, Any] = {
    "strategy": "mu2net",
    "samples": 2 * 2 * 16,
    "parameters": {"generations": 2, "candidates": 2},
}


IMPATIENT = Timing(dead_s=0.0, first_poll_s=0.001)
"""A claim counts as dead at once: the workers of these tests die in this very process."""


class Cut:
    """A store that stops answering after a number of writes, before or after the last one took effect."""

    def __init__(self, store: Store, *, writes: int, landed: bool) -> None:
        self.store, self.left, self.landed = store, writes, landed

    @property
    def url(self) -> str:
        return self.store.url

    def get(self, key: str) -> bytes:
        return self.store.get(key)

    def put(self, key: str, data: bytes) -> None:
        self._count(lambda: self.store.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> Created:
        outcome: list[Created] = []
        self._count(lambda: outcome.append(self.store.put_if_absent(key, data)))
        return outcome[0]

    def list(self, prefix: str) -> Iterator[Entry]:
        return self.store.list(prefix)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def _count(self, write: Any) -> None:
        self.left -= 1
        if self.left >= 0 or (self.left == -1 and self.landed):
            write()
        if self.left < 0:
            raise StoreUnavailableError("cut off")


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    fresh = MemoryStore(request.node.name)
    for entry in list(fresh.list("")):
        fresh.delete(entry.key)
    init_graph(fresh)
    return fresh


def search(store: Store, request: Request, **trainer: Any) -> tuple[Outcome, Graph, list[SlotRef]]:
    trained: list[SlotRef] = []
    outcome, graph = run_search(
        store,
        log.read_graph(store),
        request=request,
        make_trainer=lambda folder, spec: ArithmeticTrainer(folder, spec, trained=trained, **trainer),
        emit=silent,
        crew=Crew(timing=IMPATIENT),
    )
    return outcome, graph, trained


def route_of(graph: Graph, task: str) -> RouteSummary:
    state = graph.task(task)
    assert state is not None
    assert state.route is not None
    return state.route


def test_a_search_commits_one_route_with_all_its_blobs(store: MemoryStore) -> None:
    outcome, graph, trained = search(store, make_request("a/one"))
    assert (outcome.kind, outcome.version, trained) == ("committed", 1, [SlotRef(0, 0)])
    route = route_of(graph, "a/one")
    assert route.parent_task == names.ROOT_TASK
    for module in route.module_ids():
        assert blobs.get_module(store, module).id == module
    document = blobs.get_route(store, route.id)
    assert document.parameters == {"total": 32, "added": 32, "accounted": 32.0}
    assert document.transfer["reason"] == "no other task has a public route yet"
    assert log.read_graph(store) == graph


def test_the_same_run_again_trains_nothing(store: MemoryStore) -> None:
    search(store, make_request("a/one"))
    outcome, graph, trained = search(store, make_request("a/one"))
    assert (outcome.kind, graph.version, trained) == ("already", 1, [])
    assert "AlreadyCommitted" in outcome.reason


def test_another_spec_at_the_same_run_key_is_refused_and_says_what_to_raise(store: MemoryStore) -> None:
    search(store, make_request("a/one"))
    with pytest.raises(ConflictError, match=r"raise spec.iteration to 2"):
        search(store, make_request("a/one", seed=9))


def test_another_spec_for_an_open_search_is_refused(store: MemoryStore) -> None:
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=3, landed=True), make_request("a/one"))
    with pytest.raises(ConflictError, match="its open search"):
        search(store, make_request("a/one", seed=9))


def test_an_open_search_keeps_the_visibility_that_it_was_started_with(store: MemoryStore) -> None:
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=3, landed=True), make_request("a/one"))
    hidden = make_request("a/one", visibility="Private")
    with pytest.raises(ConflictError, match=r"spec.visibility is immutable.*started as Public"):
        search(store, replace(hidden, task_hash=make_request("a/one").task_hash))


def test_a_search_goes_on_with_its_strategy_whatever_the_default_is_now(store: MemoryStore) -> None:
    request = make_request("a/one")
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=3, landed=True), request)
    changed = replace(request, spec=make_request("a/one", **MU2NET).spec)
    outcome, _, trained = search(store, changed)
    assert (outcome.kind, trained) == ("committed", [SlotRef(0, 0)])


class Refusing(ArithmeticTrainer):
    """Its data is wrong."""

    def open(self, pinned: Mapping[str, Any] | None) -> tuple[TaskFacts, Mapping[str, Any]]:
        raise DataError("no such folder")


def test_a_mistake_in_the_spec_opens_no_search_and_is_corrected_at_the_same_iteration(store: MemoryStore) -> None:
    before = [entry.key for entry in store.list("")]
    graph = log.read_graph(store)
    with pytest.raises(DataError):
        run_search(store, graph, request=make_request("a/one", seed=1), make_trainer=Refusing, emit=silent)
    with pytest.raises(SpecError, match=r"search.parameters.parent"):
        search(store, make_request("a/one", seed=2, parameters={"parent": "a/nobody"}))
    assert [entry.key for entry in store.list("")] == before
    assert search(store, make_request("a/one", seed=3))[0].kind == "committed"


def test_a_result_that_is_another_slots_is_refused(store: MemoryStore) -> None:
    request = make_request("a/one", **MU2NET)
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=11, landed=True), request)
    first, second = (names.slot_key(request.search, 0, slot, "result.json") for slot in (0, 1))
    done, other = (first, second) if first in {entry.key for entry in store.list("")} else (second, first)
    store.put(other, store.get(done))
    with pytest.raises(IntegrityError, match="is the result of slot"):
        search(store, request)


def test_a_closing_document_whose_summary_is_of_another_route_is_refused(store: MemoryStore) -> None:
    request = make_request("a/one")
    final = closed_unless_committed(store, request)
    final["route"]["labels"] = ["yes", "no"]
    store.put(names.final_key(request.search), canonical.dumps(final))
    with pytest.raises(IntegrityError, match="of another route"):
        search(store, request)
    assert log.read_graph(store).version == 0


def closed_unless_committed(store: MemoryStore, request: Request) -> dict[str, Any]:
    """Run a search up to its closing document, which is returned."""
    for writes in itertools.count(1):
        with pytest.raises(StoreUnavailableError):
            search(Cut(store, writes=writes, landed=True), request)
        final = Folder(store, request.search).final()
        if final is not None:
            return final
    raise AssertionError("never")


def test_no_wrong_field_of_a_closing_document_escapes_as_another_error(store: MemoryStore) -> None:
    request = make_request("a/one")
    final = closed_unless_committed(store, request)
    key = names.final_key(request.search)
    fields = [(name,) for name in ("outcome", "reason", "route", "sampled", "summary", "modules", "weights")]
    inner = [(name, field) for name in ("route", "summary", "weights") for field in final[name]]
    refused = set()
    values: tuple[Any, ...] = (None, "absent", [], [[]], {}, -1, True, 10**400, 1e300)
    for place in (*fields, *inner):
        for value in values:
            damaged = json.loads(json.dumps(final))
            holder = damaged[place[0]] if len(place) == 2 else damaged
            holder[place[-1]] = value
            if value == "absent":
                del holder[place[-1]]
            trial = MemoryStore(uuid.uuid4().hex)
            for entry in store.list(""):
                trial.put(entry.key, store.get(entry.key))
            trial.put(key, canonical.dumps(damaged))
            try:
                search(trial, request)
            except EvergraftError as error:
                if str(error).startswith(f"{key}: "):
                    refused.add(place)
    assert refused >= {*fields, ("route", "labels"), ("summary", "layers"), ("weights", "generation")} - {("reason",)}


@pytest.mark.parametrize("data", [b'{"format":1}', b"[]", b'{"format":1,"plan":{"a":1e999}}'])
def test_a_damaged_plan_is_named(store: MemoryStore, data: bytes) -> None:
    request = make_request("a/one")
    key = names.plan_key(request.search, 0)
    closed_unless_committed(store, request)
    store.delete(names.final_key(request.search))
    store.put(key, data)
    with pytest.raises(IntegrityError, match=f"^{key}: "):
        search(store, request)


@pytest.mark.parametrize(
    ("field", "value"), [("flops", None), ("layers", [{}]), ("parameters", 1 << 63), ("weights", {})]
)
def test_a_damaged_result_is_named(store: MemoryStore, field: str, value: Any) -> None:
    request = make_request("a/one")
    closed_unless_committed(store, request)
    store.delete(names.final_key(request.search))
    key = names.slot_key(request.search, 0, 0, "result.json")
    store.put(key, canonical.dumps({**json.loads(store.get(key)), field: value}))
    with pytest.raises(IntegrityError, match=f"^{key}: "):
        search(store, request)


def test_an_open_search_of_another_version_is_refused(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=3, landed=True), make_request("a/one"))
    monkeypatch.setattr("evergraft.__version__", "99.0.0")
    with pytest.raises(UserError, match="ImageVersion"):
        search(store, make_request("a/one"))


def test_a_second_task_builds_on_the_first_and_shares_with_it(store: MemoryStore) -> None:
    search(store, make_request("a/one"))
    _, graph, _ = search(store, make_request("a/two", strategy="lora"))
    one, two = route_of(graph, "a/one"), route_of(graph, "a/two")
    assert two.parent == one.id
    assert two.lineage_samples == 128
    assert two.depth == 2
    assert set(one.module_ids()) & set(two.module_ids())


def test_a_private_task_is_never_built_upon(store: MemoryStore) -> None:
    search(store, make_request("a/secret", visibility="Private"))
    _, graph, _ = search(store, make_request("a/two", **MU2NET))
    own = set(route_of(graph, "a/secret").module_ids()) - set(route_of(graph, names.ROOT_TASK).module_ids())
    assert not own & set(route_of(graph, "a/two").module_ids())
    assert route_of(graph, "a/two").parent_task == names.ROOT_TASK


def test_a_worse_child_leaves_the_present_route(store: MemoryStore) -> None:
    best = max(range(40), key=lambda seed: _quality(store, seed))
    worst = min(range(40), key=lambda seed: _quality(store, seed))
    search(store, make_request("a/one", seed=best))
    before = route_of(log.read_graph(store), "a/one")
    outcome, graph, _ = search(store, make_request("a/one", iteration=2, seed=worst))
    assert (outcome.kind, outcome.version) == ("kept", 2)
    assert route_of(graph, "a/one") == before
    assert outcome.route == before


def _quality(store: MemoryStore, seed: int) -> float:
    request = make_request("a/one", seed=seed)
    trainer = ArithmeticTrainer(Folder(MemoryStore("elsewhere"), request.search), request.spec)
    from evergraft.search.strategies import get
    from evergraft.search.values import Reference
    from evergraft.search.view import build_view

    facts, _ = trainer.open(None)
    view = build_view(log.read_graph(store), spec=request.spec, facts=facts, reference=Reference(24, 48))
    plan = get("finetune").next(view)
    trainer.folder = Folder(store, request.search)
    assert isinstance(plan, Generation)
    return next(trainer.train([Claimed(SlotRef(0, 0), plan.candidates[0])])).quality


def test_all_candidates_diverged_closes_with_none(store: MemoryStore) -> None:
    outcome, graph, _ = search(store, make_request("a/one"), diverging=frozenset({SlotRef(0, 0)}))
    assert outcome.kind == "none"
    state = graph.task("a/one")
    assert state is not None
    assert (state.route, state.outcome) == (None, "none")


def test_a_failed_candidate_fails_the_search_unless_it_may_be_discarded(store: MemoryStore) -> None:
    bad = frozenset({SlotRef(0, 1)})
    outcome, _, _ = search(store, make_request("a/one", **MU2NET), failing=bad)
    assert outcome.kind == "failed"
    assert "CandidateCrashes" in outcome.reason
    outcome, _, _ = search(store, make_request("a/two", failed_candidates="Discard", **MU2NET), failing=bad)
    assert outcome.kind == "committed"


def test_a_newer_run_fences_out_an_older_one(store: MemoryStore) -> None:
    old = make_request("a/one")
    stale = log.read_graph(store)
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=5, landed=True), old)
    search(store, make_request("a/one", iteration=2))
    outcome, _ = run_search(
        store, stale, request=old, make_trainer=ArithmeticTrainer, emit=silent, crew=Crew(timing=IMPATIENT)
    )
    assert outcome.kind == "already"
    assert route_of(log.read_graph(store), "a/one").id == outcome.route.id  # type: ignore[union-attr]


@pytest.mark.parametrize("landed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("settings", [{}, MU2NET], ids=["finetune", "mu2net"])
def test_cut_off_at_any_write_the_next_worker_commits_the_same(
    store: MemoryStore, settings: dict[str, Any], landed: bool
) -> None:
    """Every write of a search in turn is the last one its worker makes."""
    calm = MemoryStore(f"{store.url}-calm")
    for entry in list(calm.list("")):
        calm.delete(entry.key)
    init_graph(calm)
    _, expected, _ = search(calm, make_request("a/one", **settings))
    writes = 0
    while True:
        for entry in list(store.list("")):
            store.delete(entry.key)
        init_graph(store)
        try:
            search(Cut(store, writes=writes, landed=landed), make_request("a/one", **settings))
        except StoreUnavailableError:
            search(store, make_request("a/one", **settings))
        else:
            break
        after = log.read_graph(store)
        assert after.version == 1
        assert route_of(after, "a/one") == route_of(expected, "a/one")
        writes += 1
    assert writes > 10


@pytest.mark.parametrize("torn", ["claim-1.json", "beat-1.json"])
def test_a_claim_or_beat_torn_by_a_power_cut_is_a_dead_one(store: MemoryStore, torn: str) -> None:
    request = make_request("a/one")
    with pytest.raises(StoreUnavailableError):
        search(Cut(store, writes=3, landed=True), request)
    store.put(names.slot_key(request.search, 0, 0, "claim-1.json"), b'{"format":1,"worker":"other"}')
    store.put(names.slot_key(request.search, 0, 0, torn), b'{"form')
    outcome, _, trained = search(store, request)
    assert outcome.kind == "committed"
    assert trained == [SlotRef(0, 0)]


@pytest.mark.parametrize("where", ["0000-0000", "final"])
def test_a_result_that_nobody_could_read_ends_the_search_for_every_worker(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Each is told at once, with the exit code of wrong data; none waits for another, and the graph stays as it was."""
    request = make_request("a/one")
    huge = {"quality": 0.5, "table": "x" * MAX_BYTES}
    train, conclude = ArithmeticTrainer._train, ArithmeticTrainer.conclude
    if where == "final":
        monkeypatch.setattr(
            ArithmeticTrainer, "conclude", lambda self, *told: replace(conclude(self, *told), test=huge)
        )
    else:
        monkeypatch.setattr(
            ArithmeticTrainer, "_train", lambda self, *told, **more: replace(train(self, *told, **more), metrics=huge)
        )
    key = f"searches/{request.search}/{where}/result.json"
    for number in range(2):
        crew = Crew(worker=f"{number:032x}", sleep=lambda seconds: pytest.fail("nothing to wait for"))
        with pytest.raises(DataError, match=f"{key}: it would have 67.* bytes, more than the {MAX_BYTES}") as told:
            run_search(
                store, log.read_graph(store), request=request, make_trainer=ArithmeticTrainer, emit=silent, crew=crew
            )
        assert told.value.exit_code == 65
    assert key not in {entry.key for entry in store.list("")}
    assert log.read_graph(store).version == 0
    monkeypatch.undo()
    assert search(store, request)[0].kind == "committed"


def test_a_state_that_nobody_could_read_is_not_written(store: MemoryStore) -> None:
    folder = Folder(store, "ab")
    with pytest.raises(DataError, match=rf"0000-0000/state-1\.json: .* more than the {MAX_BYTES}"):
        folder.put_state(SlotRef(0, 0), 1, b"x" * (MAX_BYTES + 1))
    assert folder.state(SlotRef(0, 0), 1) is None


def test_a_pinned_dataset_may_be_larger_than_other_documents_and_is_stored_small(store: MemoryStore) -> None:
    """What ``data.json`` of some 400,000 files takes."""
    folder = Folder(store, "ab")
    pinned = folder.pin({"objects": ["0123456789abcdef" * 8] * 600_000})
    data = store.get("searches/ab/data.json")
    assert len(canonical.dumps(pinned)) > MAX_BYTES > 50 * len(data)
    assert folder.manifest() == pinned
    store.put("searches/ab/data.json", canonical.dumps(pinned))  # as it was stored before
    assert folder.manifest() == pinned
