"""A search stopped by time: the best so far is committed, the stop is recorded, and a replay repeats it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from evergraft.api.resolved import ResolvedTask
from evergraft.search.claims import Crew, Timing
from evergraft.search.deadline import Deadline, Stop
from evergraft.search.engine import Outcome, Request, run_search
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.search.groups import Claimed
from evergraft.search.replayed import replay_search
from evergraft.search.values import SlotRef, SlotResult
from evergraft.store import log
from evergraft.store.headline import route_facts
from evergraft.store.memory import MemoryStore
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

LONG: dict[str, Any] = {"strategy": "mu2net", "samples": 8 * 2 * 16, "parameters": {"generations": 8, "candidates": 2}}


@pytest.fixture
def store(request: pytest.FixtureRequest) -> MemoryStore:
    fresh = MemoryStore(request.node.name)
    for entry in list(fresh.list("")):
        fresh.delete(entry.key)
    init_graph(fresh)
    return fresh


class SlowTrainer(ArithmeticTrainer):
    """Takes a moment for each candidate."""

    def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
        time.sleep(0.05)
        yield from super().train(group)


def search(store: MemoryStore, request: Request, trainer: Any = SlowTrainer) -> Outcome:
    crew = Crew(timing=Timing(first_poll_s=0.001))
    outcome, _ = run_search(store, log.read_graph(store), request=request, make_trainer=trainer, emit=silent, crew=crew)
    return outcome


def test_time_up_commits_the_best_so_far_and_replays(store: MemoryStore) -> None:
    request = make_request("a/one", timeout_s=0.12, **LONG)
    outcome = search(store, request)
    assert outcome.kind == "committed"
    assert "stopped early: timeouts.search of 0.12 s is passed" in outcome.reason
    folder = Folder(store, request.search)
    assert 0 < sum(folder.result(SlotRef(g, s)) is not None for g in range(8) for s in range(2)) < 16
    assert folder.stop() is not None
    replayed = replay_search(store, request.search)
    assert replayed.same, replayed.differences


def test_a_limit_that_is_not_reached_changes_nothing(store: MemoryStore) -> None:
    request = make_request("a/one", timeout_s=3600.0, **LONG)
    outcome = search(store, request, ArithmeticTrainer)
    assert "stopped" not in outcome.reason
    assert Folder(store, request.search).stop() is None


def test_a_worker_that_comes_later_ends_at_the_recorded_stop(store: MemoryStore) -> None:
    """The second worker finds every result of the generation, but only those of the stop count."""
    request = make_request("a/one", timeout_s=3600.0, **LONG)

    class Stopping(ArithmeticTrainer):
        def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
            for result in super().train(group):
                if (result.generation, result.slot) == (1, 0):
                    self.folder.put_stop(Stop("asked for in a test", generation=1, slots=()).to_json())
                yield result

    outcome = search(store, request, Stopping)
    assert "stopped early: asked for in a test" in outcome.reason
    route = log.read_graph(store).task("a/one")
    assert route is not None
    assert route.route is not None
    assert Folder(store, request.search).plan(2) is None
    assert replay_search(store, request.search).same


def test_a_later_slot_wins_where_an_earlier_one_of_its_generation_has_no_result(store: MemoryStore) -> None:
    """Results of a generation that was cut short are not found by their position."""
    request = make_request("a/one", timeout_s=3600.0, **LONG)

    class Stopping(ArithmeticTrainer):
        def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
            assert [claimed.ref for claimed in group] == [SlotRef(0, 1)]
            for result in super().train(group):
                self.folder.put_stop(Stop("asked for in a test", generation=0, slots=(1,)).to_json())
                yield result

    crew = Crew(worker="0" * 7 + "1" + "0" * 24)  # begins at slot 1
    outcome, graph = run_search(
        store, log.read_graph(store), request=request, make_trainer=Stopping, emit=silent, crew=crew
    )
    assert outcome.kind == "committed"
    assert "candidate 0-1 scored best" in outcome.reason
    state = graph.task("a/one")
    assert state is not None
    facts = route_facts(store, "a/one", state)
    assert facts is not None
    assert facts["stoppedEarly"] is True
    assert replay_search(store, request.search).same


def test_the_store_s_clock_tells_the_time_not_the_worker_s(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    request = make_request("a/one", timeout_s=10.0)
    folder = Folder(store, request.search)
    folder.open({"spec": {}})
    deadline = Deadline(folder, 10.0)
    assert not deadline.passed("0000-")
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    assert not deadline.passed("0000-")


def test_no_limit_asks_nothing(store: MemoryStore) -> None:
    def make(folder: Folder, spec: ResolvedTask) -> ArithmeticTrainer:
        return ArithmeticTrainer(folder, spec)

    request = make_request("a/one")
    assert search(store, request, make).kind == "committed"
    assert Folder(store, request.search).stop() is None


def test_a_candidate_that_ended_with_what_it_had_counts_as_stopped_early(store: MemoryStore) -> None:
    """One long child: every slot has its result, and yet time decided."""

    class Cut(ArithmeticTrainer):
        def train(self, group: Sequence[Claimed]) -> Iterator[SlotResult]:
            yield from (replace(result, samples=result.samples // 2) for result in super().train(group))

    search(store, make_request("a/whole"), ArithmeticTrainer)
    search(store, make_request("a/cut"), Cut)
    told = {}
    for task in ("a/whole", "a/cut"):
        state = log.read_graph(store).task(task)
        assert state is not None
        facts = route_facts(store, task, state)
        assert facts is not None
        told[task] = facts["stoppedEarly"]
    assert told == {"a/whole": False, "a/cut": True}
